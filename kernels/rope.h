#pragma once
// Rotary embedding tables on the CPU.

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/model_shape.h"
#include "kernels/attention_steps.h"

namespace kvlab {

/// cos and sin of position * inv_freq in float32, from angles in double: `fine` for positions
/// 0..63, `coarse` for multiples of 64, times attention_factor.  The angle of a position is the sum
/// of its two parts; cos and sin of the sum are off by at most 2^-22 * attention_factor.
class RopeTable {
 public:
  explicit RopeTable(const Rope& rope);
  /// Tables that cover positions [0, last].  Thread-safe; pointers live as long as the table.
  struct View {
    const float *fine = nullptr, *coarse = nullptr;
  };
  View cover(int64_t last);
  const Rope& rope() const { return rope_; }

 private:
  Rope rope_;
  std::vector<float> fine_{};
  std::mutex mutex_{};
  std::vector<std::unique_ptr<std::vector<float>>> coarse_{};  // each larger than the one before
};

/// Tables made so far, shared by engines.
std::shared_ptr<RopeTable> rope_table(const Rope& rope);

}  // namespace kvlab
