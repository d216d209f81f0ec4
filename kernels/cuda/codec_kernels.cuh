#pragma once
// The two kernels of a codec.  Included by one file per header of codecs, which the build writes
// (cmake/KvlabKernels.cmake); kernels/cuda/codec_launch.cc starts them.
//
// A codec's two kernels take 2.8 s of one core for one architecture (sm_80, nvcc 13.0): dtypes,
// rotation and parameters are known when a kernel runs, only the codec when it is compiled.

#include "kernels/cuda/codec_block.h"
#ifndef __CUDACC_RTC__
#include "kernels/cuda/codec_table.h"
#endif

namespace kvlab::inline KVLAB_TARGET {

/// Workspaces: `workspace_bytes` of shared memory, or of `spilled` for each block.
template <class Chunk>
__global__ void __launch_bounds__(kCodecThreads)
    codec_kernel(const __grid_constant__ CodecRows a, int chunk, u8* spilled,
                 int64_t workspace_bytes) {
  extern __shared__ uint4 shared[];
  u8* workspace =
      spilled == nullptr ? reinterpret_cast<u8*>(shared) : spilled + blockIdx.x * workspace_bytes;
  run_codec_block<Chunk>(a, chunk, blockIdx.x, gridDim.x, workspace);
}

}  // namespace kvlab::inline KVLAB_TARGET

/// The kernels of codec `...`, a type of namespace kvlab, as the C symbol that codec_table.cc
/// lists.
#define KVLAB_DEFINE_CUDA_CODEC(name, ...)                                     \
  extern "C" const ::kvlab::CudaCodecKernels kvlab_cuda_codec_##name{          \
      "kvlab::" #__VA_ARGS__,                                                  \
      reinterpret_cast<const void*>(                                           \
          &::kvlab::codec_kernel<::kvlab::EncodeChunk<::kvlab::__VA_ARGS__>>), \
      reinterpret_cast<const void*>(                                           \
          &::kvlab::codec_kernel<::kvlab::DecodeChunk<::kvlab::__VA_ARGS__>>)};
