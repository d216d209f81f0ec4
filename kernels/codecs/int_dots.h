#pragma once
// Scores of integer codes: <q, row> = sum over groups of scale * <q, codes> + minimum * sum(q),
// with both sums per 32-bit lane.  Bound on a score, beside float32's own (width / 16 + 8) * 2^-24
// * sum |q x|: max|q| * 2^-24 * sum of scale * code.

#include "kernels/codecs/int_fixed.h"

#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
namespace kvlab::inline KVLAB_TARGET {

/// A query in fixed point, in the order of the codes' bytes.
template <int B>
struct FixedQuery {
  struct Chunk {
    int8_t digit[Chunks<B>::kSubs][kDigits][64];
    float lane_sum[16];  // of the query over the features of a 32-bit lane, in steps
  };
  static constexpr int kHeader = 64;  // step
  static int64_t bytes(int width) {
    return kHeader + Chunks<B>::count(width) * int64_t{sizeof(Chunk)};
  }
  KVLAB_HD static float step(const u8* at) { return load_as<float>(at); }
  KVLAB_HD static const Chunk* chunks(const u8* at) {
    return reinterpret_cast<const Chunk*>(at + kHeader);
  }

  static void make(const float* q, int width, u8* to) {
    __builtin_memset(to, 0, bytes(width));
    float largest = 0.0f;
    for (int c = 0; c < width; ++c) {
      const float size = __builtin_fabsf(q[c]);
      if (!(size <= largest)) largest = size;  // a NaN stays
    }
    const FixedScale scale = FixedScale::of(largest);
    store_as(to, scale.step);
    Chunk* chunks = reinterpret_cast<Chunk*>(to + kHeader);
    for (int b = 0; b < Codes<B>::blocks(width); ++b) {
      const int at = b * Codes<B>::kBlockBytes;
      block(q + b * Codes<B>::kBlock, Codes<B>::features(width, b), scale.up, at % 64,
            chunks[at / 64]);
    }
  }

 private:
  /// q: the n features of a block whose bytes begin at `at` of the chunk.
  KVLAB_HD static void block(const float* q, int n, float up, int at, Chunk& chunk) {
    const int run = n * B / 8;
    int32_t fixed[32];
    u8 digit[kDigits][32];
    for (int i = 0; i < n; i += 16) {
      const __mmask16 some = n - i >= 16 ? 0xffff : (1 << (n - i)) - 1;
      const __m512i x =
          _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(some, q + i), _mm512_set1_ps(up)));
      _mm512_storeu_si512(fixed + i, x);
      for (int d = 0; d < kDigits; ++d)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(digit[d] + i),
                         _mm512_cvtepi32_epi8(_mm512_srl_epi32(
                             digits_of(x), _mm_cvtsi32_si128(8 * (kDigits - 1 - d)))));
    }
    for (int s = 0; s < Chunks<B>::kSubs; ++s) {
      for (int d = 0; d < kDigits; ++d)
        __builtin_memcpy(chunk.digit[s][d] + at, digit[d] + s * run, run);
      for (int j = 0; j < run; ++j)
        chunk.lane_sum[(at + j) / 4] += static_cast<float>(fixed[s * run + j]);
    }
  }
};

template <int B, class Params>
struct IntDots : IntSlice<B, Params> {
  static constexpr const char* kHow = "integer dot products";
  using Query = FixedQuery<B>;
  using Slice = IntSlice<B, Params>;

  static int64_t query_bytes(const Params&, int features, int rows) {
    return Query::bytes(features) * rows;
  }
  static int64_t scratch_bytes(const Params& p, int features, int, int rows) {
    return 2 * Slice::array_bytes(p, features, rows);
  }

  static void prepare(const PrepareQueries& a) {
    for (int r = 0; r < a.rows; ++r)
      Query::make(a.queries + r * a.stride, a.features, a.to + r * Query::bytes(a.features));
  }

  static void run(const ScoreTile& a) {
    const Params& p = *static_cast<const Params*>(a.part.params);
    const TilePart& part = a.part;
    const int groups = Slice::groups(p, part.features);
    float* scales = reinterpret_cast<float*>(a.scratch);
    float* minima = scales + Slice::array_bytes(p, part.features, part.rows) / 4;
    Slice::load(part, p, 1, scales);
    Slice::load(part, p, 2, minima);
    prefetch_small(a.ahead, part.rows);
    const int all_chunks = Chunks<B>::count(part.features);
    const int chunks = groups == 1 ? all_chunks : 0;
    const bool is_whole = chunks == 1 || chunks == 2;
    Prefetch ahead(a.ahead, part.rows,
                   int64_t{part.rows} * query_passes(a.rows) * (is_whole ? 1 : all_chunks));
    const auto some_rows = [&]<int R>(int r) {
      if (chunks == 1)
        whole<R, 1>(a, r, scales, minima, ahead);
      else if (chunks == 2)
        whole<R, 2>(a, r, scales, minima, ahead);
      else
        some<R>(a, p, r, groups, scales, minima, ahead);
      return r + R;
    };
    int r = 0;
    while (a.rows - r >= 4) r = some_rows.template operator()<4>(r);
    if (a.rows - r >= 2) r = some_rows.template operator()<2>(r);
    if (a.rows - r >= 1) some_rows.template operator()<1>(r);
  }

 private:
  /// Rows of one group and of K chunks, few enough for 32 bits: digits add up over the chunks, and
  /// scale and minimum come in once per row.
  template <int R, int K>
  static void whole(const ScoreTile& a, int first, const float* scales, const float* minima,
                    Prefetch& ahead) {
    constexpr int T = 16 / R;
    const TilePart& part = a.part;
    const int64_t stride = part.tile.stride[0], query_bytes = Query::bytes(part.features);
    const u8* query = a.prepared + first * query_bytes;
    float step[16], total[16];
    int32_t row_of[16];
    for (int i = 0; i < 16; ++i) {
      const u8* q = query + i / T * query_bytes;
      step[i] = Query::step(q);
      total[i] = 0.0f;
      for (int k = 0; k < K; ++k)
        for (const float sum : Query::chunks(q)[k].lane_sum) total[i] += sum;
      row_of[i] = i % T;
    }
    __mmask64 mask[K];
    for (int k = 0; k < K; ++k) mask[k] = Chunks<B>::mask(part.features, k);
    for (int t0 = 0; t0 < part.rows; t0 += T) {
      const int n = part.rows - t0 < T ? part.rows - t0 : T;
      const u8* codes =
          part.tile.plane[0] + (part.first_row + t0) * stride + part.first_feature * B / 8;
      F<16> sums[16];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        ahead.next();
        __m512i bytes[K];
        for (int k = 0; k < K; ++k) bytes[k] = _mm512_maskz_loadu_epi8(mask[k], codes + 64 * k);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          __m512i sum[kDigits] = {};
#pragma GCC unroll 2
          for (int k = 0; k < K; ++k)
            add_digits(bytes[k], Query::chunks(query + r * query_bytes)[k], sum);
          sums[r * T + t] = (F<16>)in_steps(sum);
        }
        if (t + 1 < n) codes += stride;  // beyond the end: the last row again, not stored
      }
      const __m512i row = _mm512_loadu_si512(row_of);
      const __m512 scale = _mm512_permutexvar_ps(row, _mm512_loadu_ps(scales + t0));
      const __m512 minimum = _mm512_permutexvar_ps(row, _mm512_loadu_ps(minima + t0));
      const __m512 dots = _mm512_fmadd_ps((__m512)sum_each(sums), scale,
                                          _mm512_mul_ps(_mm512_loadu_ps(total), minimum));
      float scores[16];
      _mm512_storeu_ps(scores, _mm512_mul_ps(dots, _mm512_loadu_ps(step)));
      for (int r = 0; r < R; ++r)
        __builtin_memcpy(a.out + (first + r) * a.out_stride + t0, scores + r * T, 4 * n);
    }
  }

  template <int R>
  static void some(const ScoreTile& a, const Params& p, int first, int groups, const float* scales,
                   const float* minima, Prefetch& ahead) {
    constexpr int T = 16 / R;
    const TilePart& part = a.part;
    const int64_t query_bytes = Query::bytes(part.features);
    const u8* query = a.prepared + first * query_bytes;
    float step[16];
    for (int i = 0; i < 16; ++i) step[i] = Query::step(query + i / T * query_bytes);
    for (int t0 = 0; t0 < part.rows; t0 += T) {
      const int n = part.rows - t0 < T ? part.rows - t0 : T;
      F<16> sums[16] = {};
      for (int k = 0; k < Chunks<B>::count(part.features); ++k) {
        int base;
        const __m512i group = Chunks<B>::groups(part.features, p.group_log2, k, &base);
        const __mmask64 mask = Chunks<B>::mask(part.features, k);
        const int64_t stride = part.tile.stride[0];
        const u8* codes = part.tile.plane[0] + (part.first_row + t0) * stride +
                          part.first_feature * B / 8 + 64 * k;
        const float* scale = scales + t0 * groups + base;
        const int64_t to_minimum = minima - scales;
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          ahead.next();
          const __m512i bytes = _mm512_maskz_loadu_epi8(mask, codes);
          const __m512 s = _mm512_permutexvar_ps(group, _mm512_loadu_ps(scale));
          const __m512 m = _mm512_permutexvar_ps(group, _mm512_loadu_ps(scale + to_minimum));
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const auto& q = Query::chunks(query + r * query_bytes)[k];
            __m512 sum = (__m512)sums[r * T + t];
            sum = _mm512_fmadd_ps(dot(bytes, q), s, sum);
            sum = _mm512_fmadd_ps(_mm512_loadu_ps(q.lane_sum), m, sum);
            sums[r * T + t] = (F<16>)sum;
          }
          if (t + 1 < n) {  // beyond the end: the last row again, not stored
            codes += stride;
            scale += groups;
          }
        }
      }
      float scores[16];
      store_f32<16>(scores, sum_each(sums) * load_f32<16>(step));
      for (int r = 0; r < R; ++r)
        __builtin_memcpy(a.out + (first + r) * a.out_stride + t0, scores + r * T, 4 * n);
    }
  }

  /// Sum over a lane's codes of n * code, as float32.
  KVLAB_HD static __m512 dot(__m512i bytes, const typename Query::Chunk& q) {
    __m512i sum[kDigits] = {};
    add_digits(bytes, q, sum);
    return in_steps(sum);
  }
  KVLAB_HD static void add_digits(__m512i bytes, const typename Query::Chunk& q,
                                  __m512i (&sum)[kDigits]) {
#pragma GCC unroll 4
    for (int s = 0; s < Chunks<B>::kSubs; ++s) {
      const __m512i codes = Chunks<B>::codes(bytes, s);
#pragma GCC unroll 3
      for (int d = 0; d < kDigits; ++d)
        sum[d] = _mm512_dpbusd_epi32(sum[d], codes, _mm512_loadu_si512(q.digit[s][d]));
    }
  }
  /// Of at most two chunks.  Below 8 bits |a| <= 2 * 15 * 127 * 8 leaves room for 16 more bits.
  KVLAB_HD static __m512 in_steps(const __m512i (&sum)[kDigits]) {
    const __m512i low = _mm512_add_epi32(_mm512_slli_epi32(sum[1], 8), sum[2]);
    if constexpr (B < 8)
      return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sum[0], 16), low));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[0]), _mm512_set1_ps(65536.0f),
                           _mm512_cvtepi32_ps(low));
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
#endif
