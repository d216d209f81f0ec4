#pragma once
// CPU helpers of the loops: sums of many vectors at once, prefetch, rows with a ragged end.

#include "kernels/codec_kernels.h"
#include "kernels/vec.h"

namespace kvlab::inline KVLAB_TARGET {

/// Lane i is the sum of the lanes of v[i], i < kLanes: log2(kLanes) levels of two shuffles and an
/// add per pair, where a horizontal sum of each would take twice as many.  v is used up.
KVLAB_HD F<kLanes> sum_each(F<kLanes>* v) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  __m512* x = reinterpret_cast<__m512*>(v);
  for (int i = 0; i < 8; ++i)
    x[i] = _mm512_add_ps(_mm512_shuffle_ps(x[2 * i], x[2 * i + 1], 0x88),
                         _mm512_shuffle_ps(x[2 * i], x[2 * i + 1], 0xdd));
  for (int i = 0; i < 4; ++i)
    x[i] = _mm512_add_ps(_mm512_shuffle_ps(x[2 * i], x[2 * i + 1], 0x88),
                         _mm512_shuffle_ps(x[2 * i], x[2 * i + 1], 0xdd));
  for (int i = 0; i < 2; ++i)
    x[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x[2 * i], x[2 * i + 1], 0x88),
                         _mm512_shuffle_f32x4(x[2 * i], x[2 * i + 1], 0xdd));
  return (F<kLanes>)_mm512_add_ps(_mm512_shuffle_f32x4(x[0], x[1], 0x88),
                                  _mm512_shuffle_f32x4(x[0], x[1], 0xdd));
#elif KVLAB_ISA >= KVLAB_ISA_AVX2
  __m256* x = reinterpret_cast<__m256*>(v);
  for (int i = 0; i < 4; ++i)
    x[i] = _mm256_add_ps(_mm256_shuffle_ps(x[2 * i], x[2 * i + 1], 0x88),
                         _mm256_shuffle_ps(x[2 * i], x[2 * i + 1], 0xdd));
  for (int i = 0; i < 2; ++i)
    x[i] = _mm256_add_ps(_mm256_shuffle_ps(x[2 * i], x[2 * i + 1], 0x88),
                         _mm256_shuffle_ps(x[2 * i], x[2 * i + 1], 0xdd));
  return (F<kLanes>)_mm256_add_ps(_mm256_permute2f128_ps(x[0], x[1], 0x20),
                                  _mm256_permute2f128_ps(x[0], x[1], 0x31));
#else
  F<kLanes> sums;
  for (int i = 0; i < kLanes; ++i) sums[i] = add_lanes<kLanes>(v[i]);
  return sums;
#endif
}

/// Asks for the lines of the large plane's next `rows` rows, evenly over `times` calls of next():
/// memory takes a few requests at a time and forgets, or waits with, those beyond.
class Prefetch {
 public:
  KVLAB_HD Prefetch(const Ahead& ahead, int rows, int64_t times)
      : at_(ahead.at), end_(ahead.at + int64_t{rows} * ahead.step) {
    const int64_t lines = (end_ - at_ + 63) / 64;
    step_ = times == 0 ? 0 : 64 * ((lines + times - 1) / times);
  }
  KVLAB_HD void next() {
    for (const u8* stop = at_ + step_; at_ < stop; at_ += 64)
      if (at_ < end_) __builtin_prefetch(at_, 0, 2);
  }

 private:
  const u8 *at_, *end_;
  int64_t step_ = 0;
};
/// The small planes' lines of all rows of a call: too few to wait for each other.
KVLAB_HD void prefetch_small(const Ahead& ahead, int rows) {
  if (ahead.step == 0) return;
  for (int p = 0; p < 2; ++p)
    for (int i = 0; i < rows * ahead.small_step[p]; i += 64)
      __builtin_prefetch(ahead.small[p] + i, 0, 2);
}

/// How often stored rows are read for so many queries, which are taken by 4, then 2, then 1.
constexpr int query_passes(int queries) { return queries / 4 + queries % 4 / 2 + queries % 2; }

constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

/// The first n < W floats at p, the other lanes 0.
template <int W>
KVLAB_HD F<W> load_some(const float* p, int n) {
  float v[W] = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return load_f32<W>(v);
}
template <int W>
KVLAB_HD void store_some(float* p, F<W> v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

}  // namespace kvlab::inline KVLAB_TARGET
