#include "eval/train/device.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/torch.h"
#include "eval/process.h"

namespace kvlab {
namespace {

/// The CUDA half lies beside the CPU half; opening it registers its operators.
void open_cuda() {
  Dl_info info{};
  KVLAB_CHECK(::dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) != 0);
  const std::filesystem::path library =
      std::filesystem::path(info.dli_fname).parent_path() / "libtorch_cuda.so";
  if (::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* why = ::dlerror();
    fail("E_NO_CUDA", "train: `cuda` needs LibTorch with CUDA, which cannot be opened: ",
         printable(why == nullptr ? "" : why, 300), "; use --device cpu");
  }
  KVLAB_REQUIRE(at::globalContext().hasCUDA(), "E_NO_CUDA",
                "train: LibTorch sees no CUDA device; use --device cpu");
}

}  // namespace

at::Device training_device(const std::string& name) {
  const bool is_cuda = name == "cuda" || name.starts_with("cuda:");
  KVLAB_REQUIRE(is_cuda || name == "cpu", "E_CONFIG", "train: device `", printable(name),
                "` is not known; known: cpu, cuda, cuda:INDEX");
  if (!is_cuda) return at::Device(at::kCPU);
  open_cuda();
  const std::string index = name == "cuda" ? "0" : name.substr(5);
  KVLAB_REQUIRE(
      !index.empty() && index.size() < 4 && index.find_first_not_of("0123456789") == index.npos,
      "E_CONFIG", "train: device `", printable(name), "` is not known; known: cuda:INDEX");
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(std::stoi(index)));
}

double peak_operations(Dtype dtype, const at::Device& device) {
  const c10::InferenceMode inference;
  const int64_t n = device.is_cpu() ? 2048 : 8192;
  const auto options = at::TensorOptions().dtype(scalar_type(dtype)).device(device);
  const at::Tensor a = at::empty({n, n}, options).fill_(0.5), b = a.clone();
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds_now();
    at::matmul(a, b).select(0, 0).select(0, 0).item();  // waits for the device
    best = std::min(best, seconds_now() - start);
  }
  return 2.0 * static_cast<double>(n * n * n) / best;
}

}  // namespace kvlab
