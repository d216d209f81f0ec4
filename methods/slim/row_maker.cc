#include "methods/slim/row_maker.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/error.h"

namespace kvlab::slim {
namespace {

/// Rows are multiplied so many at a time, the last ones padded with zeros: a GEMM of one shape sums
/// every row in the same order.
constexpr int64_t kRows = 16;
/// Features whose errors are passed on by one GEMM.
constexpr int64_t kShapedFeatures = 64;

/// Calls make(x block [kRows, D] -> out block [kRows, w]) over all rows.
at::Tensor in_blocks(const at::Tensor& x, int64_t width,
                     const std::function<at::Tensor(const at::Tensor&)>& make) {
  const int64_t n = x.size(0);
  at::Tensor out = at::empty({n, width}, x.options());
  for (int64_t first = 0; first < n; first += kRows) {
    const int64_t rows = std::min(kRows, n - first);
    at::Tensor block = x.narrow(0, first, rows);
    if (rows < kRows) {
      const at::Tensor padded = at::zeros({kRows, x.size(1)}, x.options());
      padded.narrow(0, 0, rows).copy_(block);
      block = padded;
    }
    out.narrow(0, first, rows).copy_(make(block).narrow(0, 0, rows));
  }
  return out;
}

at::Tensor product(const at::Tensor& x, const at::Tensor& map) {
  return in_blocks(x, map.size(1), [&](const at::Tensor& block) { return at::mm(block, map); });
}

void round_each(at::Tensor& x, Dtype format) {
  float* const data = x.data_ptr<float>();
  std::transform(data, data + x.numel(), data, [&](float value) { return rounded(value, format); });
}

/// One row, features [first, last): t is rounded, errors go to `errors`, and on to features of the
/// range below.
void round_features(float* t, float* errors, const float* shaping, int64_t stride, int64_t first,
                    int64_t last, Dtype format) {
  for (int64_t j = last - 1; j >= first; --j) {
    const float target = t[j];
    t[j] = rounded(target, format);
    errors[j] += t[j] - target;  // on entry: target - k
    const float* const weights = shaping + j * stride;
    for (int64_t i = first; i < j; ++i) {
      const float passed = weights[i] * errors[j];
      t[i] -= passed;
      errors[i] -= passed;
    }
  }
}

void round_block(at::Tensor& rows, const at::Tensor& shaping, Dtype format) {
  const int64_t n = rows.size(0), width = rows.size(1);
  at::Tensor errors = at::zeros({n, width}, rows.options());
  for (int64_t last = width; last > 0;) {
    const int64_t first = (last - 1) / kShapedFeatures * kShapedFeatures;
    for (int64_t r = 0; r < n; ++r)
      round_features(rows.data_ptr<float>() + r * width, errors.data_ptr<float>() + r * width,
                     shaping.data_ptr<float>(), width, first, last, format);
    if (first > 0) {
      const at::Tensor passed = at::mm(errors.narrow(1, first, last - first).contiguous(),
                                       shaping.narrow(0, first, last - first).narrow(1, 0, first));
      rows.narrow(1, 0, first).sub_(passed);
      errors.narrow(1, 0, first).sub_(passed);
    }
    last = first;
  }
}

}  // namespace

float rounded(float x, Dtype format) {
  if (format == Dtype::bf16) return static_cast<float>(c10::BFloat16(x));
  if (format == Dtype::f16) return static_cast<float>(c10::Half(x));
  return x;
}

double ulp(double x, Dtype format) {
  const int digits = format == Dtype::bf16 ? 7 : 10, least = format == Dtype::bf16 ? -126 : -14;
  const int exponent = x == 0 ? least : std::max(std::ilogb(x), least);
  return std::ldexp(1.0, exponent - digits);
}

float rounded24(float x, Dtype format) {
  const float high = rounded(x, format);
  if (!std::isfinite(high)) return high;
  const double step = ulp(high, format) / 256;
  const double low = std::nearbyint((double{x} - double{high}) / step);
  return static_cast<float>(high + std::clamp(low, -128.0, 127.0) * step);
}

void round_shaped(at::Tensor& rows, const at::Tensor& shaping, Dtype format) {
  rows = in_blocks(rows, rows.size(1), [&](const at::Tensor& block) {
    at::Tensor own = block.clone();
    round_block(own, shaping, format);
    return own;
  });
}

RowMaker::Rows RowMaker::make(const at::Tensor& x) const {
  const at::Tensor wide = x.to(at::kFloat).contiguous();
  Rows out{.row = factors_.rows.defined() ? product(wide, factors_.rows) : wide.clone()};
  if (factors_.is_24_bit()) return out;
  if (factors_.shaping.defined())
    round_shaped(out.row, factors_.shaping, stored_);
  else
    round_each(out.row, stored_);
  if (factors_.side() == 0) return out;
  out.side = product(wide, factors_.side_input) - product(out.row, factors_.side_row);
  round_each(out.side, stored_);
  return out;
}

}  // namespace kvlab::slim
