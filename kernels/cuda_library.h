#pragma once
// The CUDA half of the kernels lives in a shared object of its own, libkvlab_cuda.so, which is
// opened when a CUDA device is first asked for: a program that stays on the CPU never loads CUDA.

#include <cstdint>
#include <string>
#include <vector>

namespace kvlab {

/// A device as its driver describes it.
struct CudaDevice {
  int index = 0;
  std::string name{};
  int compute_capability = 0;  // 90: 9.0
  int code = 0;                // whose code runs on it: 80 or 90; 0 when a probe kernel failed
  std::string problem{};       // of the probe, in CUDA's words; empty: usable
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
};

/// Versions as CUDA numbers them: 13000 is 13.0.
struct CudaStatus {
  int toolkit = 0;        // of the compiler that built the kernels
  int runtime = 0;        // of the CUDA runtime library that was found
  int driver = 0;         // newest CUDA this machine's driver can run; 0: no driver
  std::string problem{};  // why there are no devices, in CUDA's words
  std::vector<CudaDevice> devices{};
};

struct CudaCodecs;  // kernels/cuda_codecs.h
struct CudaMemory;  // kernels/cuda_memory.h

/// What libkvlab_cuda.so's one C symbol returns.  Its functions throw Error like any other.
struct CudaLibrary {
  uint32_t magic;         // kCudaLibraryMagic
  uint32_t struct_bytes;  // sizeof(CudaLibrary)
  const char* abi;        // KVLAB_ABI_TAG of the headers it was built with
  CudaStatus (*status)();
  const CudaMemory* memory;
  const CudaCodecs* codecs;
};
inline constexpr uint32_t kCudaLibraryMagic = 0x6b766375;  // "kvcu"

/// Opens libkvlab_cuda.so, which lies beside libkvlab.so; once, for the life of the process.
/// E_UNSUPPORTED: it was not built or cannot be opened.  E_PLUGIN: it is of another build.
const CudaLibrary& cuda_library();

/// Versions and devices.  As cuda_library.
CudaStatus cuda_status();

/// The device, or E_UNSUPPORTED: no driver, one older than the kernels, no such device, or one that
/// runs none of the code this build contains.
CudaDevice require_cuda_device(const CudaStatus& status, int index);

}  // namespace kvlab

/// The symbol cuda_library() looks for.
extern "C" const kvlab::CudaLibrary* kvlab_cuda_library();
