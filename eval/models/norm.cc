#include "eval/models/norm.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <array>
#include <cmath>

#include "core/error.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

/// Sixteen running sums, so that the compiler may use vectors without reordering anything.
template <class T>
float sum_of_squares(const T* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  std::array<float, kLanes> lanes{};
  int64_t c = 0;
  for (; c + kLanes <= n; c += kLanes)
    for (int64_t i = 0; i < kLanes; ++i) {
      const float value = static_cast<float>(x[c + i]);
      lanes[static_cast<size_t>(i)] += value * value;
    }
  float sum = 0;
  for (; c < n; ++c) sum += static_cast<float>(x[c]) * static_cast<float>(x[c]);
  for (const float lane : lanes) sum += lane;
  return sum;
}

template <class T>
void norm_row(const T* x, const T* weight, int64_t n, float eps, NormForm form, T* out) {
  const float mean = sum_of_squares(x, n) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(mean + eps);
  if (form == NormForm::weight) {
    for (int64_t c = 0; c < n; ++c) {
      const T normed = static_cast<T>(static_cast<float>(x[c]) * scale);
      out[c] = static_cast<T>(static_cast<float>(weight[c]) * static_cast<float>(normed));
    }
  } else {
    for (int64_t c = 0; c < n; ++c)
      out[c] =
          static_cast<T>(static_cast<float>(x[c]) * scale * (1.0f + static_cast<float>(weight[c])));
  }
}

template <class T>
void norm_rows(const TensorView& x, const TensorView& weight, float eps, NormForm form,
               const TensorView& out) {
  const int64_t n = weight.numel(), rows = x.numel() / n;
  const int64_t grain = std::max<int64_t>(1, 16384 / n);  // rows that are worth a thread
  run_ranges(rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      norm_row(x.as<T>() + r * n, weight.as<T>(), n, eps, form, out.as<T>() + r * n);
  });
}

}  // namespace

void rms_norm(TensorView x, TensorView weight, double eps, NormForm form, TensorView out) {
  KVLAB_CHECK(x.dtype == weight.dtype && x.dtype == out.dtype);
  KVLAB_CHECK(x.is_contiguous() && weight.is_contiguous() && out.is_contiguous());
  KVLAB_CHECK(x.numel() == out.numel() && x.size(x.dims - 1) == weight.numel());
  const float e = static_cast<float>(eps);
  switch (x.dtype) {
    case Dtype::f32:
      return norm_rows<float>(x, weight, e, form, out);
    case Dtype::bf16:
      return norm_rows<c10::BFloat16>(x, weight, e, form, out);
    case Dtype::f16:
      return norm_rows<c10::Half>(x, weight, e, form, out);
    default:
      KVLAB_CHECK(false);
  }
}

}  // namespace kvlab
