#pragma once
// Rotary embedding of a pass: cosines and sines once, applied to every layer that shares them.

#include <cstdint>
#include <span>
#include <vector>

#include "core/model_shape.h"
#include "core/types.h"

namespace kvlab {

class Rotation {
 public:
  /// Angles in double, cos and sin (times the attention factor) rounded to float32.
  Rotation(const Rope& rope, std::span<const int32_t> positions);

  /// out[r, h] = x[r, h] turned to the position of row r; x, out [rows, heads, d] of one float
  /// dtype, contiguous; out may be x.  Computed in float32, rounded once.
  void apply(TensorView x, TensorView out) const;

 private:
  template <class T>
  void apply_to(const TensorView& x, const TensorView& out) const;
  Rope::Style style_;
  int64_t pairs_;
  std::vector<float> cos_, sin_;  // [rows, pairs]
};

}  // namespace kvlab
