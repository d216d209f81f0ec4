#include "eval/models/rotate.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

constexpr int64_t kGrain = 4096;  // pairs that are worth a thread

/// Where the two members of pair c lie.
struct Pairing {
  int64_t step, distance;  // first member at c * step, second `distance` after it
};
Pairing pairing(Rope::Style style, int64_t pairs) {
  return style == Rope::Style::half_split ? Pairing{1, pairs} : Pairing{2, 1};
}

template <class T>
void rotate_head(const T* x, const float* cos, const float* sin, int64_t pairs, Pairing p, T* out) {
  for (int64_t c = 0; c < pairs; ++c) {
    const int64_t i = c * p.step, j = i + p.distance;
    const float a = static_cast<float>(x[i]), b = static_cast<float>(x[j]);
    out[i] = static_cast<T>(a * cos[c] - b * sin[c]);
    out[j] = static_cast<T>(b * cos[c] + a * sin[c]);
  }
}

}  // namespace

Rotation::Rotation(const Rope& rope, std::span<const int32_t> positions)
    : style_(rope.style), pairs_(static_cast<int64_t>(rope.inv_freq.size())) {
  const int64_t rows = static_cast<int64_t>(positions.size());
  cos_.resize(static_cast<size_t>(rows * pairs_));
  sin_.resize(cos_.size());
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, pairs_) / 16);
  run_ranges(rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      for (int64_t c = 0; c < pairs_; ++c) {
        const double angle =
            positions[static_cast<size_t>(r)] * rope.inv_freq[static_cast<size_t>(c)];
        const size_t at = static_cast<size_t>(r * pairs_ + c);
        cos_[at] = static_cast<float>(std::cos(angle) * rope.attention_factor);
        sin_[at] = static_cast<float>(std::sin(angle) * rope.attention_factor);
      }
  });
}

template <class T>
void Rotation::apply_to(const TensorView& x, const TensorView& out) const {
  const int64_t heads = x.size(1), d = x.size(2);
  const Pairing p = pairing(style_, pairs_);
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, heads * pairs_));
  run_ranges(x.size(0), grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      for (int64_t h = 0; h < heads; ++h) {
        const T* from = x.as<T>() + (r * heads + h) * d;
        T* to = out.as<T>() + (r * heads + h) * d;
        rotate_head(from, &cos_[static_cast<size_t>(r * pairs_)],
                    &sin_[static_cast<size_t>(r * pairs_)], pairs_, p, to);
        if (to != from) std::copy(from + 2 * pairs_, from + d, to + 2 * pairs_);
      }
  });
}

void Rotation::apply(TensorView x, TensorView out) const {
  KVLAB_CHECK(x.dims == 3 && x.dtype == out.dtype && x.is_contiguous() && out.is_contiguous());
  KVLAB_CHECK(x.sizes == out.sizes && 2 * pairs_ <= x.size(2));
  KVLAB_CHECK(static_cast<size_t>(x.size(0) * pairs_) == cos_.size());
  if (pairs_ == 0 || x.size(0) == 0) {
    if (x.data != out.data) std::copy_n(x.as<u8>(), x.numel() * size_of(x.dtype), out.as<u8>());
    return;
  }
  switch (x.dtype) {
    case Dtype::f32:
      return apply_to<float>(x, out);
    case Dtype::bf16:
      return apply_to<c10::BFloat16>(x, out);
    case Dtype::f16:
      return apply_to<c10::Half>(x, out);
    default:
      KVLAB_CHECK(false);
  }
}

}  // namespace kvlab
