#pragma once
// Between tensors of the run's dtype and float32 rows.

#include <cstdint>

#include "core/types.h"
#include "kernels/attention_steps.h"

namespace kvlab {

/// Rows in scratch begin at multiples of 16 numbers.
constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

/// E_SHAPE: not a float dtype, or features that do not lie side by side.  `what` names the tensor.
void check_rows(const TensorView& rows, const char* what);

/// Features [0, count) at rows[i0, i1] to float32, and back.
void load_row(const AttentionSteps& steps, const TensorView& rows, int64_t i0, int64_t i1,
              int64_t count, float* to);
void store_row(const AttentionSteps& steps, const TensorView& rows, int64_t i0, int64_t i1,
               int64_t count, const float* from);

/// float32 rows in memory, as the float32 codec reads them.
TilePart float_rows(const float* data, int64_t stride, int rows, int features);

}  // namespace kvlab
