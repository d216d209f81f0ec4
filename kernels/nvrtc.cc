#include "kernels/nvrtc.h"

#include <dlfcn.h>
#include <link.h>

#include <memory>

#include "core/error.h"

namespace kvlab {
namespace {

// The part of NVRTC's C interface that is used here.  It is declared, not included, so that a build
// without CUDA headers can still compile for a machine that has the library.
using Program = struct NvrtcProgram*;
enum Result : int { kSuccess = 0, kInvalidOption = 5, kCompilation = 6 };

struct Nvrtc {
  std::filesystem::path include;  // CUDA's headers, beside the library
  const char* (*error_string)(Result);
  Result (*create)(Program*, const char* text, const char* name, int headers,
                   const char* const* header_texts, const char* const* header_names);
  Result (*destroy)(Program*);
  Result (*compile)(Program, int options, const char* const* option_texts);
  Result (*log_size)(Program, size_t*);
  Result (*log)(Program, char*);
  Result (*cubin_size)(Program, size_t*);
  Result (*cubin)(Program, char*);
};

constexpr const char* kNvrtc = "libnvrtc.so.13";

template <class Function>
void find(void* handle, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  KVLAB_REQUIRE(*function != nullptr, "E_UNSUPPORTED", "nvrtc: ", kNvrtc, " has no ", name);
}

std::filesystem::path folder_of(void* handle) {
  const link_map* map = nullptr;
  KVLAB_CHECK(dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0);
  return std::filesystem::path(map->l_name).parent_path();
}

/// NVRTC opens its second half by name alone when it first compiles, and has no run path: it finds
/// it because it is there already.
void open_builtins(void* handle) {
  Result (*version)(int*, int*) = nullptr;
  find(handle, "nvrtcVersion", &version);
  int major = 0, minor = 0;
  KVLAB_CHECK(version(&major, &minor) == kSuccess);
  const std::string name =
      "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor);
  if (dlopen((folder_of(handle) / name).c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr)
    fail("E_UNSUPPORTED", "nvrtc: ", dlerror(), "; install the package nvidia-cuda-nvrtc again");
}

Nvrtc open_nvrtc() {
  void* handle = dlopen(kNvrtc, RTLD_NOW | RTLD_LOCAL);  // found by libkvlab's run path
  if (handle == nullptr)
    fail("E_UNSUPPORTED", "nvrtc: ", dlerror(), "; install the package nvidia-cuda-nvrtc");
  open_builtins(handle);
  Nvrtc api{};
  api.include = folder_of(handle).parent_path() / "include";
  find(handle, "nvrtcGetErrorString", &api.error_string);
  find(handle, "nvrtcCreateProgram", &api.create);
  find(handle, "nvrtcDestroyProgram", &api.destroy);
  find(handle, "nvrtcCompileProgram", &api.compile);
  find(handle, "nvrtcGetProgramLogSize", &api.log_size);
  find(handle, "nvrtcGetProgramLog", &api.log);
  find(handle, "nvrtcGetCUBINSize", &api.cubin_size);
  find(handle, "nvrtcGetCUBIN", &api.cubin);
  return api;
}

const Nvrtc& nvrtc() {
  static const Nvrtc api = open_nvrtc();
  return api;
}

void check(Result result, const char* what) {
  KVLAB_REQUIRE(result == kSuccess, "E_UNSUPPORTED", "nvrtc: ", what, ": ",
                nvrtc().error_string(result));
}

struct Destroy {
  void operator()(Program program) const { nvrtc().destroy(&program); }
};
using Owned = std::unique_ptr<std::remove_pointer_t<Program>, Destroy>;

Owned create(const NvrtcSource& source) {
  Program program = nullptr;
  check(nvrtc().create(&program, source.text.c_str(), source.name.c_str(), 0, nullptr, nullptr),
        "nvrtcCreateProgram");
  return Owned(program);
}

std::vector<std::string> options(const NvrtcSource& source, const std::string& architecture) {
  std::vector<std::string> all{"--gpu-architecture=" + architecture, "--std=c++20", "--fmad=false",
                               "--include-path=" + nvrtc().include.string(),
                               "--include-path=" + (nvrtc().include / "cccl").string()};
  for (const auto& folder : source.include) all.push_back("--include-path=" + folder.string());
  for (const auto& define : source.defines) all.push_back("--define-macro=" + define);
  return all;
}

std::string log_of(Program program) {
  size_t bytes = 0;
  check(nvrtc().log_size(program, &bytes), "nvrtcGetProgramLogSize");
  std::string text(bytes, '\0');
  check(nvrtc().log(program, text.data()), "nvrtcGetProgramLog");
  text.resize(text.find_last_not_of(std::string_view("\0\n", 2)) + 1);
  return text;
}

}  // namespace

NvrtcResult compile_cuda(const NvrtcSource& source, const std::string& architecture) {
  const Owned program = create(source);
  const std::vector<std::string> texts = options(source, architecture);
  std::vector<const char*> pointers;
  for (const auto& text : texts) pointers.push_back(text.c_str());

  const Result result =
      nvrtc().compile(program.get(), static_cast<int>(pointers.size()), pointers.data());
  if (result == kCompilation)
    fail("E_FORMAT", "nvrtc: ", source.name, " does not compile for ", architecture, ":\n",
         log_of(program.get()));
  KVLAB_REQUIRE(result != kInvalidOption, "E_UNSUPPORTED", "nvrtc: refused for ", architecture,
                ": ", log_of(program.get()));
  check(result, "nvrtcCompileProgram");

  size_t bytes = 0;
  check(nvrtc().cubin_size(program.get(), &bytes), "nvrtcGetCUBINSize");
  NvrtcResult out{.cubin = std::string(bytes, '\0'), .warnings = log_of(program.get())};
  check(nvrtc().cubin(program.get(), out.cubin.data()), "nvrtcGetCUBIN");
  return out;
}

}  // namespace kvlab
