#pragma once
// Every call of the CUDA runtime goes through KVLAB_CUDA: what failed, with what, in CUDA's words.

#include <cuda_runtime_api.h>

#include "core/error.h"

namespace kvlab {

/// E_MEMORY when the device has not enough of it, else E_DEVICE.
template <class... Parts>
void check_cuda(cudaError_t error, const Parts&... doing) {
  if (error == cudaSuccess) return;
  fail(error == cudaErrorMemoryAllocation ? "E_MEMORY" : "E_DEVICE", "cuda: ", doing..., ": ",
       cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

/// The device calls go to until the end of a scope.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check_cuda(cudaGetDevice(&before_), "asking for the current device");
    check_cuda(cudaSetDevice(device), "switching to cuda:", device);
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

}  // namespace kvlab
