// Attention of training over bfloat16, where the CPU multiplies pairs of them.
//
// A product C[m, n] += A[m, 2k..2k+1] . B[2k..2k+1, n] reads its left side as 32-bit pairs, one
// broadcast at a time, and its right side as vectors of 16 pairs: "packed" below means pairs along
// the dimension that is summed.  Where the left side is needed transposed (dV = P^T dO, dK = dS^T
// Q), the pairs are made of two neighbouring rows instead of two columns, so nothing is ever
// transposed.
//
// Forward: 32 queries at a time against all their keys, softmax in two passes over the strip, which
// stays in the second-level cache up to 2048 keys.  Backward: 64 x 64 tiles; P is computed again
// from the saved log-sum-exp.  A head's sums are made in one order: the result does not depend on
// threads.

#include "kernels/train/attention.h"

#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16

#include <algorithm>
#include <cmath>

#include "kernels/exp.h"
#include "kernels/train/round.h"

namespace kvlab::inline KVLAB_TARGET {
namespace {

constexpr float kLog2E = 1.442695041f;
constexpr int64_t kStrip = 32, kTile = 64;

int64_t padded(int64_t tokens) { return (tokens + kTile - 1) / kTile * kTile; }

/// The left side of a product: pair k of row m is at[m * row + k * step].
struct Left {
  const uint32_t* at;
  int64_t row, step;
};
/// The right side, pairs [k][n].
struct Right {
  const uint32_t* at;
  int64_t row;
};

/// C [4, 16 V] (+)= A B over `pairs` pairs.
template <int V, bool kAdd>
void product4(const Left& a, const Right& b, int64_t pairs, float* c, int64_t stride) {
  __m512 sums[4][V];
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      sums[m][v] = kAdd ? _mm512_loadu_ps(c + m * stride + 16 * v) : _mm512_setzero_ps();
  for (int64_t k = 0; k < pairs; ++k) {
    __m512bh right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = (__m512bh)_mm512_loadu_si512(b.at + k * b.row + 16 * v);
#pragma GCC unroll 4
    for (int m = 0; m < 4; ++m) {
      const __m512bh left =
          (__m512bh)_mm512_set1_epi32(static_cast<int>(a.at[m * a.row + k * a.step]));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[m][v] = _mm512_dpbf16_ps(sums[m][v], left, right[v]);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + m * stride + 16 * v, sums[m][v]);
}

/// C [rows, columns] (+)= A B; rows a multiple of 4, columns of 32.
template <bool kAdd>
void product(const Left& a, const Right& b, int64_t pairs, int64_t rows, int64_t columns, float* c,
             int64_t stride) {
  for (int64_t n = 0; n < columns; n += 64) {
    const Right part{b.at + n, b.row};
    for (int64_t m = 0; m < rows; m += 4) {
      const Left four{a.at + m * a.row, a.row, a.step};
      if (columns - n >= 64)
        product4<4, kAdd>(four, part, pairs, c + m * stride + n, stride);
      else
        product4<2, kAdd>(four, part, pairs, c + m * stride + n, stride);
    }
  }
}

uint32_t* pairs_of(uint16_t* p) { return reinterpret_cast<uint32_t*>(p); }
const uint32_t* pairs_of(const uint16_t* p) { return reinterpret_cast<const uint32_t*>(p); }

/// out = in turned by the token's angle; in bfloat16 to bfloat16.
void turn(const TrainAttention& a, const uint16_t* in, int64_t token, uint16_t* out) {
  const int64_t half = a.head_dim / 2;
  for (int64_t c = 0; c < half; c += 16) {
    const F<16> x = load_bf16<16>(in + c), y = load_bf16<16>(in + half + c);
    const F<16> cos = load_f32<16>(a.cos + token * half + c);
    const F<16> sin = load_f32<16>(a.sin + token * half + c);
    store_rounded<16>(out + c, x * cos - y * sin);
    store_rounded<16>(out + half + c, y * cos + x * sin);
  }
}

/// The transpose of turn(), of a gradient.
void turn_back(const TrainAttention& a, const float* in, int64_t token, uint16_t* out) {
  const int64_t half = a.head_dim / 2;
  for (int64_t c = 0; c < half; c += 16) {
    const F<16> x = load_f32<16>(in + c), y = load_f32<16>(in + half + c);
    const F<16> cos = load_f32<16>(a.cos + token * half + c);
    const F<16> sin = load_f32<16>(a.sin + token * half + c);
    store_rounded<16>(out + c, x * cos + y * sin);
    store_rounded<16>(out + half + c, y * cos - x * sin);
  }
}

/// Rows [first, first + n) of `from` turned, or as they are; zero from `tokens` on.
void take_rows(const TrainAttention& a, const uint16_t* from, int64_t stride, bool turned,
               int64_t first, int64_t n, uint16_t* rows) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t* to = rows + i * a.head_dim;
    const int64_t t = first + i;
    if (t >= a.tokens)
      std::fill_n(to, a.head_dim, uint16_t{0});
    else if (turned)
      turn(a, from + t * stride, t, to);
    else
      std::copy_n(from + t * stride, a.head_dim, to);
  }
}

/// Pairs of neighbouring rows: [n, d] -> [n / 2][d].
void pack_rows(const uint16_t* rows, int64_t n, int64_t d, uint32_t* out) {
  for (int64_t i = 0; i < n; i += 2)
    for (int64_t c = 0; c < d; c += 16) {
      const U<16> low = load_shorts<16>(rows + i * d + c);
      const U<16> high = load_shorts<16>(rows + (i + 1) * d + c);
      store_as(out + i / 2 * d + c, low | high << 16);
    }
}

/// Pairs of neighbouring features: [n, d] -> [d / 2][stride], columns [0, n).
void pack_features(const uint16_t* rows, int64_t n, int64_t d, int64_t stride, uint32_t* out) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(d / 2)));
  for (int64_t i = 0; i < n; i += 16)
    for (int64_t c = 0; c < d / 2; ++c)
      _mm512_storeu_si512(out + c * stride + i,
                          _mm512_i32gather_epi32(at, pairs_of(rows + i * d) + c, 4));
}

/// Hands out parts of the work memory.
struct Work {
  u8* at;
  template <class T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(at);
    at += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return p;
  }
};

__mmask16 first_lanes(int64_t n) {
  return n >= 16  ? __mmask16{0xffff}
         : n <= 0 ? __mmask16{0}
                  : static_cast<__mmask16>((1u << n) - 1);
}

/// Weights 2^(x - max) of the first n scores (to zero from there to `end`, a multiple of 32) as
/// bfloat16; returns their sum and sets `max`, of scores times `factor`.
float soften(const float* scores, int64_t n, int64_t end, float factor, uint16_t* weights,
             float& top) {
  __m512 tops = _mm512_set1_ps(-3.4e38f);
  for (int64_t c = 0; c < n; c += 16)
    tops = _mm512_mask_max_ps(tops, first_lanes(n - c), tops, _mm512_loadu_ps(scores + c));
  top = _mm512_reduce_max_ps(tops) * factor;
  F<16> sum{};
  for (int64_t c = 0; c < end; c += 16) {
    const F<16> power =
        exp2<16>(fma<16>(load_f32<16>(scores + c), splat<16>(factor), splat<16>(-top)));
    const F<16> weight = (F<16>)_mm512_maskz_mov_ps(first_lanes(n - c), (__m512)power);
    sum = sum + weight;
    store_rounded<16>(weights + c, weight);
  }
  return add_lanes<16>(sum);
}

}  // namespace

void train_attention(const TrainAttention& a) {
  const int64_t d = a.head_dim, all = padded(a.tokens);
  Work work{a.work};
  auto* rows = work.take<uint16_t>(all * d);
  auto* keys = work.take<uint32_t>(d / 2 * all);
  auto* values = work.take<uint32_t>(all / 2 * d);
  auto* queries = work.take<uint16_t>(kStrip * d);
  auto* scores = work.take<float>(kStrip * all);
  auto* weights = work.take<uint16_t>(kStrip * all);
  auto* sums = work.take<float>(kStrip * d);
  take_rows(a, a.keys, a.stride, true, 0, all, rows);
  pack_features(rows, all, d, all, keys);
  take_rows(a, a.values, a.stride, false, 0, all, rows);
  pack_rows(rows, all, d, values);
  const float factor = a.scale * kLog2E;
  for (int64_t head = 0; head < a.group; ++head)
    for (int64_t first = 0; first < a.tokens; first += kStrip) {
      const int64_t n = std::min(kStrip, a.tokens - first);
      take_rows(a, a.queries + head * d, a.stride, true, first, kStrip, queries);
      for (int64_t m = 0; m < n; m += 4) {
        const int64_t last = std::min(first + m + 4, a.tokens);  // keys that the four may read
        const int64_t columns = (last + 63) / 64 * 64, end = (last + 31) / 32 * 32;
        product<false>({pairs_of(queries) + m * d / 2, d / 2, 1}, {keys, all}, d / 2, 4, columns,
                       scores + m * all, all);
        float norm[4], top[4];
        for (int64_t i = 0; i < 4; ++i) {
          const int64_t t = first + m + i;
          norm[i] = soften(scores + (m + i) * all, std::min(t + 1, last), end, factor,
                           weights + (m + i) * all, top[i]);
        }
        product<false>({pairs_of(weights + m * all), all / 2, 1}, {values, d}, end / 2, 4, d, sums,
                       d);
        for (int64_t i = 0; i < 4 && m + i < n; ++i) {
          const int64_t t = first + m + i;
          a.lse[head * a.tokens + t] = top[i] + std::log2(norm[i]);
          const F<16> share = splat<16>(1.0f / norm[i]);
          for (int64_t c = 0; c < d; c += 16)
            store_rounded<16>(a.out + t * a.out_stride + head * d + c,
                              load_f32<16>(sums + i * d + c) * share);
        }
      }
    }
}

namespace {

/// One tile of the backward pass: 64 queries of a head, 64 keys.
struct Tile {
  float scores[kTile * kTile], dweights[kTile * kTile];
  uint32_t weights[kTile / 2 * kTile];  // pairs of queries
  uint32_t dscores[kTile / 2 * kTile];  // pairs of queries
  uint16_t dscore_rows[kTile * kTile];  // pairs of keys
};

/// bfloat16 of two rows as pairs.
KVLAB_HD U<16> pair_up(F<16> low, F<16> high) {
  const __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)low));
  const __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)high));
  return (U<16>)_mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}

/// P = 2^(scores * factor - lse), dS = P (dP - delta) scale; zero where key > query.
void fill_tile(Tile& tile, const float* lse, const float* delta, float scale, bool diagonal) {
  const F<16> factor = splat<16>(scale * kLog2E);
  for (int64_t r = 0; r < kTile; r += 2)
    for (int64_t c = 0; c < kTile; c += 16) {
      F<16> p[2], ds[2];
#pragma GCC unroll 2
      for (int64_t i = 0; i < 2; ++i) {
        const int64_t at = (r + i) * kTile + c;
        p[i] = exp2<16>(fma<16>(load_f32<16>(tile.scores + at), factor, splat<16>(-lse[r + i])));
        if (diagonal) p[i] = (F<16>)_mm512_maskz_mov_ps(first_lanes(r + i + 1 - c), (__m512)p[i]);
        ds[i] =
            p[i] * (load_f32<16>(tile.dweights + at) - splat<16>(delta[r + i])) * splat<16>(scale);
        store_rounded<16>(tile.dscore_rows + at, ds[i]);
      }
      store_as(tile.weights + r / 2 * kTile + c, pair_up(p[0], p[1]));
      store_as(tile.dscores + r / 2 * kTile + c, pair_up(ds[0], ds[1]));
    }
}

/// <out, dout> of a row.
float row_dot(const uint16_t* x, const uint16_t* y, int64_t d) {
  F<16> sum{};
  for (int64_t c = 0; c < d; c += 16)
    sum = fma<16>(load_bf16<16>(x + c), load_bf16<16>(y + c), sum);
  return add_lanes<16>(sum);
}

}  // namespace

void train_attention_backward(const TrainAttention& a) {
  const int64_t d = a.head_dim, all = padded(a.tokens);
  Work work{a.work};
  auto* rows = work.take<uint16_t>(all * d);
  auto* keys = work.take<uint32_t>(d / 2 * all);       // pairs of features
  auto* values = work.take<uint32_t>(d / 2 * all);     // pairs of features
  auto* key_pairs = work.take<uint32_t>(all / 2 * d);  // pairs of keys
  auto* dkeys = work.take<float>(all * d);
  auto* dvalues = work.take<float>(all * d);
  auto* queries = work.take<uint16_t>(kTile * d);
  auto* douts = work.take<uint16_t>(kTile * d);
  auto* query_pairs = work.take<uint32_t>(kTile / 2 * d);
  auto* dout_pairs = work.take<uint32_t>(kTile / 2 * d);
  auto* dqueries = work.take<float>(kTile * d);
  auto* tile = work.take<Tile>(1);
  float lse[kTile], delta[kTile];

  take_rows(a, a.values, a.stride, false, 0, all, rows);
  pack_features(rows, all, d, all, values);
  take_rows(a, a.keys, a.stride, true, 0, all, rows);
  pack_features(rows, all, d, all, keys);
  pack_rows(rows, all, d, key_pairs);
  std::fill_n(dkeys, all * d, 0.0f);
  std::fill_n(dvalues, all * d, 0.0f);
  for (int64_t head = 0; head < a.group; ++head)
    for (int64_t first = 0; first < a.tokens; first += kTile) {
      take_rows(a, a.queries + head * d, a.stride, true, first, kTile, queries);
      take_rows(a, a.dout + head * d, a.out_stride, false, first, kTile, douts);
      pack_rows(queries, kTile, d, query_pairs);
      pack_rows(douts, kTile, d, dout_pairs);
      for (int64_t i = 0; i < kTile; ++i) {
        const int64_t t = first + i;
        lse[i] = t < a.tokens ? a.lse[head * a.tokens + t] : 1e30f;  // no weight at all
        delta[i] =
            t < a.tokens ? row_dot(a.out + t * a.out_stride + head * d, douts + i * d, d) : 0.0f;
      }
      std::fill_n(dqueries, kTile * d, 0.0f);
      for (int64_t key = 0; key <= first; key += kTile) {
        product<false>({pairs_of(queries), d / 2, 1}, {keys + key, all}, d / 2, kTile, kTile,
                       tile->scores, kTile);
        product<false>({pairs_of(douts), d / 2, 1}, {values + key, all}, d / 2, kTile, kTile,
                       tile->dweights, kTile);
        fill_tile(*tile, lse, delta, a.scale, key == first);
        product<true>({tile->weights, 1, kTile}, {dout_pairs, d}, kTile / 2, kTile, d,
                      dvalues + key * d, d);
        product<true>({tile->dscores, 1, kTile}, {query_pairs, d}, kTile / 2, kTile, d,
                      dkeys + key * d, d);
        product<true>({pairs_of(tile->dscore_rows), kTile / 2, 1}, {key_pairs + key / 2 * d, d},
                      kTile / 2, kTile, d, dqueries, d);
      }
      for (int64_t i = 0; i < kTile && first + i < a.tokens; ++i)
        turn_back(a, dqueries + i * d, first + i, a.dqueries + (first + i) * a.stride + head * d);
    }
  for (int64_t t = 0; t < a.tokens; ++t) {
    turn_back(a, dkeys + t * d, t, a.dkeys + t * a.stride);
    for (int64_t c = 0; c < d; c += 16)
      store_rounded<16>(a.dvalues + t * a.stride + c, load_f32<16>(dvalues + t * d + c));
  }
}

}  // namespace kvlab::inline KVLAB_TARGET

#endif
