#pragma once
// Attention mass: the probability each stored row got, an extra pass over the keys.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/attend.h"
#include "kernels/cpu/worker.h"

namespace kvlab {

/// Rows of the mass tensor: list after list, in a list segment after segment, slot after slot.
class MassRows {
 public:
  explicit MassRows(std::span<const Segment> segments);
  /// Row of slot s of a list in a segment: base + s.
  int64_t base(int list, int segment) const {
    return base_[static_cast<size_t>(list) * segments_ + static_cast<size_t>(segment)];
  }
  int64_t size() const { return size_; }

 private:
  size_t segments_ = 0;
  std::vector<int64_t> base_{};
  int64_t size_ = 0;
};

/// E_SHAPE: the mass tensor, or what it is computed from, is not what the call says it is.
void check_mass(const AttendCall& call, const MassRows& rows);

/// lse: [call rows, H] of the whole attention.  segments: of each segment of the context's call,
/// its number among those `rows` was made of.
struct MassPass {
  const AttendContext* context = nullptr;
  const float* lse = nullptr;
  const MassRows* rows = nullptr;
  std::span<const int> segments{};
};

void add_mass(const MassPass& pass, CpuResources& resources, std::vector<WorkCounts>& counts);

}  // namespace kvlab
