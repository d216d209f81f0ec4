#pragma once
// Scores of bfloat16 rows by vdpbf16ps, straight from memory.
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

  static bool takes(const Params&, int, int, int) { return true; }

  // Prepared: int32 parts, then from byte 64 on bfloat16 [rows][parts of 3][features rounded up].
  static int64_t query_bytes(const Params&, int features, int rows) {
    return 64 + int64_t{6} * round_up(features, kVector) * rows;
  }
  static int64_t scratch_bytes(const Params&, int, int, int) { return 0; }

  static void prepare(const PrepareQueries& a) {
    const int stride = round_up(a.features, kVector);
    uint16_t* to = reinterpret_cast<uint16_t*>(a.to + 64);
    int parts = 1;
    for (int r = 0; r < a.rows; ++r)
      for (int c = 0; c < stride; ++c) {
        float left = c < a.features ? a.queries[r * a.stride + c] : 0.0f;
        for (int part = 0; part < 3; ++part) {
          const uint16_t bits = bf16_bits(left);
          to[(int64_t{r} * 3 + part) * stride + c] = bits;
          if (left != 0.0f && part >= parts) parts = part + 1;
          left -= bf16_value(bits);
        }
      }
    store_as(a.to, parts);
  }

  static void run(const ScoreTile& a) {
    const int parts = load_as<int>(a.prepared);
    if (parts == 1) return rows<1>(a);
    if (parts == 2) return rows<2>(a);
    rows<3>(a);
  }

 private:
  template <int P>
  static void rows(const ScoreTile& a) {
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
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          ahead.next();
          const __m512i key = load(row[t] + 2 * c);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
            for (int p = 0; p < P; ++p)
              sums[r * T + t] = (F<16>)_mm512_dpbf16_ps(
                  (__m512)sums[r * T + t], (__m512bh)key,
                  (__m512bh)_mm512_loadu_si512(q + (r * 3 + p) * stride + c));
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
};

}  // namespace kvlab::inline KVLAB_TARGET
#endif
