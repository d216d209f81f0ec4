#pragma once
// One call of Engine::attend.

#include <span>
#include <vector>

#include "core/engine.h"
#include "kernels/cpu/items.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/worker.h"

namespace kvlab {

/// What an engine keeps between calls.
struct CpuResources {
  Isa isa = Isa::scalar;
  int threads = 1;
  std::vector<Scratch> scratch{};  // one per thread
  Scratch shared{};                // partial states and results of a call
  int workers() const { return 4 * threads; }
  int64_t scratch_bytes() const;
};

/// Segments that kernels read as they lie in memory; the others become float32 first.
std::vector<int> segments_with_kernels(std::span<const Segment> segments);

/// E_SHAPE, E_UNSUPPORTED, E_STALE_PLAN.
Ran attend(CpuResources& resources, const AttendCall& call);

}  // namespace kvlab
