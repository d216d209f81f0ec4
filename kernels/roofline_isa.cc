// kernels/roofline.h, compiled once per instruction set.

#include "kernels/roofline.h"

#include "kernels/vec.h"

namespace kvlab::inline KVLAB_TARGET {
namespace {

constexpr int W = kLanes;

/// `streams` places at once, each asked for `ahead` bytes early (0: the memory is left to guess).
template <int kStreams, int kAhead>
uint64_t read_streams(const u8* data, int64_t bytes) {
  constexpr int kStep = 256;
  const int64_t share = bytes / kStreams / kStep * kStep;
  U<W> sums[kStep / (4 * W)] = {};
  for (int64_t i = 0; i < share; i += kStep)
    for (int s = 0; s < kStreams; ++s) {
      const u8* at = data + s * share + i;
      if (kAhead > 0)
        for (int line = 0; line < kStep; line += 64) __builtin_prefetch(at + kAhead + line, 0, 2);
      for (int v = 0; v < kStep / (4 * W); ++v) sums[v] = sums[v] ^ load_as<U<W>>(at + v * 4 * W);
    }
  uint64_t total = 0;
  for (const U<W>& sum : sums)
    for (int l = 0; l < W; ++l) total += sum[l];
  for (int64_t i = kStreams * share; i < bytes; ++i) total += data[i];
  return total;
}
uint64_t read(const u8* data, int64_t bytes) { return read_streams<1, 0>(data, bytes); }
uint64_t read_ahead(const u8* data, int64_t bytes) { return read_streams<4, 8192>(data, bytes); }

/// 16 chains hide the latency of two units.
constexpr int kChains = 16;

float multiply_adds(int64_t count, int64_t* done) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
  constexpr int kEach = 32;
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) {
    sums[i] = _mm512_setzero_ps();
    asm volatile("" : "+v"(sums[i]));  // else one chain would do for all
  }
  const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3c00), y = (__m512bh)_mm512_set1_epi16(0x3b00);
  const int64_t rounds = count / (kChains * kEach) + 1;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], x, y);
  }
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += _mm512_reduce_add_ps(sums[i]);
#else
  constexpr int kEach = W;
  F<W> sums[kChains];
  for (int i = 0; i < kChains; ++i) {
    float start = 0;
    asm volatile("" : "+m"(start));  // else one chain would do for all
    sums[i] = splat<W>(start);
  }
  const F<W> x = splat<W>(0.999f), y = splat<W>(1e-3f);
  const int64_t rounds = count / (kChains * kEach) + 1;
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = fma<W>(sums[i], x, y);
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += add_lanes<W>(sums[i]);
#endif
  *done = rounds * kChains * kEach;
  return total;
}

}  // namespace

extern const RooflineLoops kRooflineLoops;
const RooflineLoops kRooflineLoops{{&read, &read_ahead},
                                   &multiply_adds,
#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
                                   "bfloat16 dot products"
#else
                                   "float32 multiply-adds"
#endif
};

}  // namespace kvlab::inline KVLAB_TARGET
