#pragma once
// Scores of bfloat16 rows by vdpbf16ps.  Few queries take rows straight from memory and add up the
// lanes of 16 scores at once.  For many, a block of rows is packed first, once: 16 rows side by
// side by pairs of features, so that a lane is a score and nothing is left to add up.
//
// A float32 query is the exact sum of at most three bfloat16 (8 + 8 + 8 bits of 24; parts below
// 1e-38 are lost), so the products are exact and only their float32 sum rounds, as it does in the
// other form.  Queries that are bfloat16 already take one part, a third of the work.  Scores differ
// from the exact dot product by at most (3 * width + 16) * 2^-24 * sum |q k|.

#include "kernels/lanes.h"

#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
namespace kvlab::inline KVLAB_TARGET {

template <class Params>
struct Bf16Dots {
  static constexpr const char* kHow = "bf16 dot products";
  static constexpr int kVector = 32;  // features
  static constexpr int kPacked = 16;  // queries that packing is worth

  static bool takes(const Params&, int, int, int) { return true; }

  // Prepared: int32 parts, then from byte 64 on bfloat16 [rows][parts of 3][features rounded up].
  static int64_t query_bytes(const Params&, int features, int rows) {
    return 64 + int64_t{6} * round_up(features, kVector) * rows;
  }
  static int64_t scratch_bytes(const Params&, int features, int queries, int rows) {
    return queries < kPacked ? 0 : int64_t{2} * round_up(features, kVector) * round_up(rows, 16);
  }

  static void prepare(const PrepareQueries& a) {
    const int stride = round_up(a.features, kVector);
    uint16_t* to = reinterpret_cast<uint16_t*>(a.to + 64);
    int parts = 1;
    for (int r = 0; r < a.rows; ++r)
      for (int c = 0; c < stride; c += 16) {
        const int n = a.features - c;
        const __mmask16 some = n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1;
        __m512 left = _mm512_maskz_loadu_ps(some, a.queries + r * a.stride + c);
        for (int part = 0; part < 3; ++part) {
          const U<16> bits = to_bf16<16>((F<16>)left);
          store_shorts<16>(to + (int64_t{r} * 3 + part) * stride + c, bits);
          const bool any = _mm512_cmp_ps_mask(left, _mm512_setzero_ps(), _CMP_NEQ_UQ) != 0;
          if (any && part >= parts) parts = part + 1;
          left = _mm512_sub_ps(left, (__m512)(bits << 16));
        }
      }
    store_as(a.to, parts);
  }

  static void run(const ScoreTile& a) {
    const int parts = load_as<int>(a.prepared);
    if (a.rows >= kPacked) pack(a);
    if (parts == 1) return rows<1>(a);
    if (parts == 2) return rows<2>(a);
    rows<3>(a);
  }

 private:
  template <int P>
  static void rows(const ScoreTile& a) {
    if (a.rows >= kPacked) return packed_rows<P>(a);
    const int vectors = round_up(a.part.features, kVector) / kVector;
    Prefetch ahead(a.ahead, a.part.rows, int64_t{a.part.rows} * query_passes(a.rows) * vectors);
    int r = 0;
    for (; a.rows - r >= 4; r += 4) some<P, 4>(a, r, ahead);
    for (; a.rows - r >= 2; r += 2) some<P, 2>(a, r, ahead);
    for (; a.rows - r >= 1; r += 1) some<P, 1>(a, r, ahead);
  }

  template <int P, int R>
  static void some(const ScoreTile& a, int first, Prefetch& ahead) {
    constexpr int T = 16 / R;
    const TilePart& part = a.part;
    const int stride = round_up(part.features, kVector);
    const uint16_t* q =
        reinterpret_cast<const uint16_t*>(a.prepared + 64) + int64_t{first} * 3 * stride;
    const int whole = part.features / kVector * kVector;
    const __mmask32 tail = (1u << (part.features - whole)) - 1;
    for (int t0 = 0; t0 < part.rows; t0 += T) {
      const u8* row[T];
      for (int t = 0; t < T; ++t) {
        const int at = part.first_row + (t0 + t < part.rows ? t0 + t : part.rows - 1);
        row[t] = part.tile.plane[0] + at * part.tile.stride[0] + 2 * part.first_feature;
      }
      F<16> sums[16] = {};
      const auto add = [&](int c, auto load) {
        __m512i key[T];
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          ahead.next();
          key[t] = load(row[t] + 2 * c);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
          for (int p = 0; p < P; ++p) {
            const __m512i query = _mm512_loadu_si512(q + (r * 3 + p) * stride + c);
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t)
              sums[r * T + t] = (F<16>)_mm512_dpbf16_ps((__m512)sums[r * T + t], (__m512bh)key[t],
                                                        (__m512bh)query);
          }
      };
      for (int c = 0; c < whole; c += kVector)
        add(c, [](const u8* p) { return _mm512_loadu_si512(p); });
      if (tail != 0) add(whole, [&](const u8* p) { return _mm512_maskz_loadu_epi16(tail, p); });
      float scores[16];
      store_f32<16>(scores, sum_each(sums));
      const int n = part.rows - t0 < T ? part.rows - t0 : T;
      for (int r = 0; r < R; ++r)
        __builtin_memcpy(a.out + (first + r) * a.out_stride + t0, scores + r * T, 4 * n);
    }
  }

  /// x[i][j] -> x[j][i], of 32-bit lanes.
  static void transpose(__m512i* x) {
    __m512i y[16];
    for (int i = 0; i < 16; i += 2) {
      y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
      y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)  // x[i + k]: column 4q + k of rows i .. i + 3, q the quarter
      for (int k = 0; k < 2; ++k) {
        x[i + 2 * k] = _mm512_unpacklo_epi64(y[i + k], y[i + 2 + k]);
        x[i + 2 * k + 1] = _mm512_unpackhi_epi64(y[i + k], y[i + 2 + k]);
      }
    for (int k = 0; k < 4; ++k) {
      const __m512i a = _mm512_shuffle_i32x4(x[k], x[4 + k], 0x44);
      const __m512i b = _mm512_shuffle_i32x4(x[k], x[4 + k], 0xee);
      const __m512i c = _mm512_shuffle_i32x4(x[8 + k], x[12 + k], 0x44);
      const __m512i d = _mm512_shuffle_i32x4(x[8 + k], x[12 + k], 0xee);
      y[k] = _mm512_shuffle_i32x4(a, c, 0x88);
      y[4 + k] = _mm512_shuffle_i32x4(a, c, 0xdd);
      y[8 + k] = _mm512_shuffle_i32x4(b, d, 0x88);
      y[12 + k] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }

  /// To scratch, uint32 [pairs of features][rows rounded up]; beyond the end: the last row again.
  static void pack(const ScoreTile& a) {
    const TilePart& part = a.part;
    const int all = round_up(part.rows, 16);
    uint32_t* to = reinterpret_cast<uint32_t*>(a.scratch);
    const int vectors = round_up(part.features, kVector) / kVector;
    Prefetch ahead(a.ahead, part.rows, int64_t{all} * vectors);
    for (int t0 = 0; t0 < part.rows; t0 += 16)
      for (int c = 0; c < part.features; c += kVector) {
        const int left = part.features - c;
        const __mmask32 some = left >= kVector ? ~__mmask32{0} : (1u << left) - 1;
        __m512i x[16];
        for (int t = 0; t < 16; ++t) {
          ahead.next();
          const int at = part.first_row + (t0 + t < part.rows ? t0 + t : part.rows - 1);
          x[t] = _mm512_maskz_loadu_epi16(
              some, part.tile.plane[0] + at * part.tile.stride[0] + 2 * (part.first_feature + c));
        }
        transpose(x);
        for (int i = 0; i < 16; ++i) _mm512_store_si512(to + int64_t{c / 2 + i} * all + t0, x[i]);
      }
  }

  template <int P>
  static void packed_rows(const ScoreTile& a) {
    int r = 0;
    for (; a.rows - r >= 4; r += 4) packed_queries<P, 4>(a, r);
    for (; a.rows - r >= 1; r += 1) packed_queries<P, 1>(a, r);
  }
  template <int P, int R>
  static void packed_queries(const ScoreTile& a, int first) {
    const int all = round_up(a.part.rows, 16);
    int t = 0;
    for (; all - t >= 64; t += 64) packed<P, R, 4>(a, first, t, all);
    for (; all - t >= 16; t += 16) packed<P, R, 1>(a, first, t, all);
  }
  /// R queries, V * 16 rows.
  template <int P, int R, int V>
  static void packed(const ScoreTile& a, int first, int t, int all) {
    const int stride = round_up(a.part.features, kVector);
    const u8* q = a.prepared + 64 + int64_t{6} * first * stride;
    const uint32_t* keys = reinterpret_cast<const uint32_t*>(a.scratch) + t;
    __m512 sums[R][V] = {};
    for (int pair = 0; pair < stride / 2; ++pair, keys += all) {
      __m512i key[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) key[v] = _mm512_load_si512(keys + 16 * v);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
        for (int p = 0; p < P; ++p) {
          const __m512i query =
              _mm512_set1_epi32(load_as<int32_t>(q + 2 * (int64_t{r * 3 + p} * stride + 2 * pair)));
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v)
            sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)key[v], (__m512bh)query);
        }
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v)
        _mm512_storeu_ps(a.out + (first + r) * a.out_stride + t + 16 * v, sums[r][v]);
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
#endif
