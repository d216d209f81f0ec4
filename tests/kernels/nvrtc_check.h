#pragma once
// The check every codec's header goes through: NVRTC compiles it, with a use of it, for each
// architecture the CUDA object is built for.

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "kernels/nvrtc.h"
#include "tests/source_dir.h"

namespace kvlab {

/// Kernel `text` includes repository headers ("kernels/...") and compiles for sm_80 and sm_90a
/// without a warning.
inline void expect_nvrtc_compiles(const std::string& name, const std::string& text) {
  const NvrtcSource source{.name = name, .text = text, .include = {kSourceDir}};
  for (const char* architecture : {"sm_80", "sm_90a"}) {
    try {
      const NvrtcResult compiled = compile_cuda(source, architecture);
      EXPECT_EQ(compiled.warnings, "");
      EXPECT_EQ(compiled.cubin.substr(1, 3), "ELF");
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
}

}  // namespace kvlab
