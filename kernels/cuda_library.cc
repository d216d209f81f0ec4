#include "kernels/cuda_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "core/abi_tag.h"
#include "core/error.h"

namespace kvlab {
namespace {

constexpr const char* kCudaLibrary = "libkvlab_cuda.so";
constexpr const char* kSymbol = "kvlab_cuda_library";
constexpr const char* kUseCpu = "use --device cpu";

std::filesystem::path beside_this_library() {
  Dl_info here{};
  KVLAB_CHECK(dladdr(reinterpret_cast<const void*>(&cuda_library), &here) != 0);
  return std::filesystem::absolute(here.dli_fname).parent_path() / kCudaLibrary;
}

const CudaLibrary* open_library() {
  const std::filesystem::path path = beside_this_library();
  KVLAB_REQUIRE(std::filesystem::exists(path), "E_UNSUPPORTED", "cuda: there is no ", path.string(),
                "; build with KVLAB_CUDA=ON, or ", kUseCpu);
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    fail("E_UNSUPPORTED", "cuda: ", path.string(), " cannot be opened: ", dlerror(), "; ", kUseCpu);
  const auto symbol = reinterpret_cast<decltype(&kvlab_cuda_library)>(dlsym(handle, kSymbol));
  KVLAB_REQUIRE(symbol != nullptr, "E_PLUGIN", "cuda: ", path.string(), " has no symbol ", kSymbol);
  const CudaLibrary* library = symbol();
  KVLAB_REQUIRE(
      library->magic == kCudaLibraryMagic && library->struct_bytes == sizeof(CudaLibrary) &&
          std::string_view(library->abi) == KVLAB_ABI_TAG,
      "E_PLUGIN", "cuda: ", path.string(), " was built with other headers than libkvlab.so (",
      library->magic == kCudaLibraryMagic ? library->abi : "no kvlab object", " against ",
      KVLAB_ABI_TAG, "); build both again");
  return library;
}

std::string dotted(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

const CudaLibrary& cuda_library() {
  static const CudaLibrary* const library = open_library();  // a throw leaves it to the next call
  return *library;
}

CudaStatus cuda_status() { return cuda_library().status(); }

CudaDevice require_cuda_device(const CudaStatus& status, int index) {
  const std::string device = "cuda:" + std::to_string(index);
  KVLAB_REQUIRE(status.driver != 0, "E_UNSUPPORTED", device,
                ": this machine has no NVIDIA driver; install one that runs CUDA ",
                dotted(status.toolkit), ", or ", kUseCpu);
  KVLAB_REQUIRE(status.driver / 1000 >= status.toolkit / 1000, "E_UNSUPPORTED", device,
                ": the NVIDIA driver runs CUDA up to ", dotted(status.driver),
                ", the kernels need ", dotted(status.toolkit), "; update the driver, or ", kUseCpu);
  KVLAB_REQUIRE(!status.devices.empty(), "E_UNSUPPORTED", device,
                ": the NVIDIA driver shows no device (", status.problem,
                "); check CUDA_VISIBLE_DEVICES, or ", kUseCpu);
  KVLAB_REQUIRE(index >= 0 && index < static_cast<int>(status.devices.size()), "E_UNSUPPORTED",
                device, ": devices here are cuda:0 to cuda:", status.devices.size() - 1);
  const CudaDevice& found = status.devices[static_cast<size_t>(index)];
  KVLAB_REQUIRE(found.problem.empty(), "E_UNSUPPORTED", device, ": ", found.name,
                " (compute capability ", found.compute_capability / 10, ".",
                found.compute_capability % 10, ") runs no kernel of this build (", found.problem,
                "); it has to be 8.0 or newer, or ", kUseCpu);
  return found;
}

}  // namespace kvlab
