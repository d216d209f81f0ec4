#pragma once
// The kernels of every codec of this build.  The build writes the definitions: it knows the codecs.

namespace kvlab {

struct CudaCodecKernels {
  const char* type;    // CodecKernels::cuda_type
  const void* encode;  // codec_kernel<...> of kernels/cuda/codec_kernels.cuh
  const void* decode;
};

int cuda_codec_count();
const CudaCodecKernels& cuda_codec(int i);

}  // namespace kvlab
