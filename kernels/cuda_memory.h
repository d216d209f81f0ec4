#pragma once
// Device memory and streams, as libkvlab_cuda.so offers them: cuda_library().memory.

#include <cstdint>

namespace kvlab {

/// Where work is queued.  A null stream is the device's default one.
struct CudaStream {
  int device = 0;
  void* stream = nullptr;  // cudaStream_t
};

/// E_MEMORY, E_DEVICE: the call and its sizes, in one sentence.
struct CudaMemory {
  void* (*allocate)(int device, int64_t bytes);
  void (*release)(int device, void* at);
  /// Either side may be host memory.  Complete when the stream has come to it; host memory that is
  /// not pinned may be reused at once.
  void (*copy)(void* to, const void* from, int64_t bytes, const CudaStream& stream);
  void (*fill)(void* to, uint8_t byte, int64_t bytes, const CudaStream& stream);
  CudaStream (*make_stream)(int device);
  void (*release_stream)(const CudaStream& stream);
  /// Waits for all that was queued; what failed meanwhile is reported here.
  void (*wait)(const CudaStream& stream);
  /// Milliseconds the device took for what `work` queued.
  float (*time)(const CudaStream& stream, void (*work)(void* context), void* context);
};

}  // namespace kvlab
