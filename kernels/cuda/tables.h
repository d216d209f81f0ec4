#pragma once
// The tables of functions that libkvlab_cuda.so hands out, each defined beside its functions.

namespace kvlab {

struct CudaCodecs;
struct CudaMemory;
extern const CudaCodecs kCudaCodecs;
extern const CudaMemory kCudaMemory;

}  // namespace kvlab
