#pragma once
// The engine that runs on the CPU.

#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"

namespace kvlab {

struct CpuOptions {
  int threads = 0;    // 0: LibTorch's pool as it is
  std::string isa{};  // "scalar", "avx2", "avx512", "avx512bf16"; empty: the best this CPU has
};

/// E_UNKNOWN, E_UNSUPPORTED: an instruction set this build or this CPU does not have.
std::shared_ptr<Engine> make_cpu_engine(const CpuOptions& options = {});

/// Instruction sets of this build that this CPU can run, weakest first.
std::vector<std::string> cpu_instruction_sets();

}  // namespace kvlab
