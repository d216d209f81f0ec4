#pragma once
// 2^x and tanh on vectors, for softmax and soft-caps.

#include "kernels/vec.h"

namespace kvlab::inline KVLAB_TARGET {

/// (2^f - 1) / f for |f| <= 1/2: minimax of degree 5, relative error of 1 + f * result 1.9e-9.
template <int W>
KVLAB_HD F<W> exp2_slope(F<W> f) {
  F<W> p = splat<W>(1.53458124e-4f);
  p = fma<W>(p, f, splat<W>(1.33999309e-3f));
  p = fma<W>(p, f, splat<W>(9.61848896e-3f));
  p = fma<W>(p, f, splat<W>(5.55032878e-2f));
  p = fma<W>(p, f, splat<W>(2.40226469e-1f));
  return fma<W>(p, f, splat<W>(6.93147206e-1f));
}

/// 2^x for x <= 127, to 2 units in the last place; 0 below 2^-126, so for -infinity; NaN for NaN.
template <int W>
KVLAB_HD F<W> exp2(F<W> x) {
  const F<W> magic = splat<W>(12582912.0f);  // 1.5 * 2^23: the sum's low bits are round(x)
  const F<W> shifted = x + magic, f = x - (shifted - magic);
  const F<W> power = fma<W>(exp2_slope<W>(f), f, splat<W>(1.0f));
  const F<W> result = (F<W>)((U<W>)power + ((U<W>)shifted << 23));
  return x < splat<W>(-126.0f) ? splat<W>(0.0f) : result;
}

/// tanh(x) to 4 units in the last place: (e - 1) / (e + 1) with e - 1 = e^(2x) - 1 free of
/// cancellation.
template <int W>
KVLAB_HD F<W> tanh(F<W> x) {
  const F<W> limit = splat<W>(9.02f), twice_log2_e = splat<W>(2.885390082f);
  x = x > limit ? limit : x;  // tanh is 1 - 2^-25 there
  x = x < -limit ? -limit : x;
  const F<W> y = x * twice_log2_e;
  const F<W> magic = splat<W>(12582912.0f);
  const F<W> shifted = y + magic, n = shifted - magic;
  // f = y - n, with the part of 2 log2(e) that float32 does not hold.
  const F<W> f = fma<W>(x, splat<W>(2.885390082f), -n) + x * splat<W>(3.85192598e-8f);
  const F<W> scale = (F<W>)((U<W>)splat<W>(1.0f) + ((U<W>)shifted << 23));
  const F<W> less_one = fma<W>(scale * exp2_slope<W>(f), f, scale - splat<W>(1.0f));
  return less_one / (less_one + splat<W>(2.0f));
}

}  // namespace kvlab::inline KVLAB_TARGET
