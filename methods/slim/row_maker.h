#pragma once
// From a layer's input to the row it stores: project, shape the rounding, note what is lost.

#include <ATen/core/Tensor.h>

#include "core/types.h"
#include "methods/slim/factors.h"

namespace kvlab::slim {

/// x rounded to the nearest number of a format, ties to even; float32 in and out.  f32: x.
float rounded(float x, Dtype format);
/// As the codecs `float24` and `bfloat24` store it: 16 bits and 8 more of what they miss.
float rounded24(float x, Dtype format);
/// The distance of neighbours of `format` at x, 16-bit formats; that of the smallest normal number
/// below it.
double ulp(double x, Dtype format);

/// In place, float32 [n, w] -> the points of the format's grid whose weighted error is least, one
/// feature after the other, the last first: t_j = k_j - sum_{i > j} L[i, j] e_i, k^_j = round(t_j),
/// e_j = k^_j - k_j.  A row's result depends on the row alone.  L [w, w] unit lower triangular.
void round_shaped(at::Tensor& rows, const at::Tensor& shaping, Dtype format);

/// Rows of one layer.  Each row's bits depend on its x alone, not on the pass it came in.
class RowMaker {
 public:
  /// stored: format of rows and side (bfloat16, float16, float32).  `factors` outlives it.
  RowMaker(const Factors& factors, Dtype stored) : factors_(factors), stored_(stored) {}

  struct Rows {
    at::Tensor row{};   // float32 [n, w]: numbers of the stored format; keys24: before coding
    at::Tensor side{};  // float32 [n, r], or undefined
  };
  /// x [n, D], any float dtype.
  Rows make(const at::Tensor& x) const;

 private:
  const Factors& factors_;
  Dtype stored_;
};

}  // namespace kvlab::slim
