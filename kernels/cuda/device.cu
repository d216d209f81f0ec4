// What libkvlab_cuda.so says of itself and of the devices of the machine.

#include <cuda_runtime_api.h>

#include "core/abi_tag.h"
#include "kernels/cuda/tables.h"
#include "kernels/cuda_library.h"

namespace kvlab {
namespace {

/// Which of the architectures in this object a device really runs.
__global__ void write_architecture(int* out) {
#ifdef __CUDA_ARCH__
  *out = __CUDA_ARCH__ / 10;
#endif
}

struct DeviceInt {
  int* at = nullptr;
  ~DeviceInt() { cudaFree(at); }
};

/// Runs one kernel on the current device.
cudaError_t probe(int* architecture) {
  DeviceInt out;
  if (cudaError_t error = cudaMalloc(&out.at, sizeof(int)); error != cudaSuccess) return error;
  write_architecture<<<1, 1>>>(out.at);
  if (cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  return cudaMemcpy(architecture, out.at, sizeof(int), cudaMemcpyDeviceToHost);
}

CudaDevice describe(int index) {
  CudaDevice device{.index = index};
  cudaDeviceProp properties{};
  cudaError_t error = cudaGetDeviceProperties(&properties, index);
  if (error == cudaSuccess) {
    device.name = properties.name;
    device.compute_capability = 10 * properties.major + properties.minor;
    device.multiprocessors = properties.multiProcessorCount;
    device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
    error = cudaSetDevice(index);
  }
  if (error == cudaSuccess) error = probe(&device.code);
  if (error != cudaSuccess) device.problem = cudaGetErrorString(error);
  return device;
}

CudaStatus status() {
  CudaStatus status{.toolkit = CUDART_VERSION};
  cudaRuntimeGetVersion(&status.runtime);
  cudaDriverGetVersion(&status.driver);
  int count = 0;
  if (cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    status.problem = cudaGetErrorString(error);
    return status;
  }
  if (count == 0) status.problem = "its device list is empty";
  int current = 0;
  cudaGetDevice(&current);
  for (int index = 0; index < count; ++index) status.devices.push_back(describe(index));
  cudaSetDevice(current);
  return status;
}

constexpr CudaLibrary kLibrary{.magic = kCudaLibraryMagic,
                               .struct_bytes = sizeof(CudaLibrary),
                               .abi = KVLAB_ABI_TAG,
                               .status = &status,
                               .memory = &kCudaMemory,
                               .codecs = &kCudaCodecs};

}  // namespace
}  // namespace kvlab

extern "C" const kvlab::CudaLibrary* kvlab_cuda_library() { return &kvlab::kLibrary; }
