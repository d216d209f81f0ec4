#pragma once
// CUDA C++ compiled at run time by the NVRTC of the Python environment.  Needs no GPU.  Products
// and sums are not contracted, as everywhere in kernels/.

#include <filesystem>
#include <string>
#include <vector>

namespace kvlab {

struct NvrtcSource {
  std::string name{};                            // how diagnostics call it
  std::string text{};                            // CUDA C++20
  std::vector<std::filesystem::path> include{};  // beside CUDA's own headers
  std::vector<std::string> defines{};            // "NAME=VALUE"
};

struct NvrtcResult {
  std::string cubin{};     // machine code, an ELF file
  std::string warnings{};  // the compiler's log; empty when it had nothing to say
};

/// Machine code for `architecture`: "sm_80", "sm_90a", ...
/// E_UNSUPPORTED: no NVRTC, or one that does not know the architecture.  E_FORMAT: `text` does not
/// compile; the message is the compiler's log.
NvrtcResult compile_cuda(const NvrtcSource& source, const std::string& architecture);

}  // namespace kvlab
