#pragma once
// Weighted sums of integer codes: sum over t of w_t * x_t = sum over t of (w_t * scale_t) * codes_t
// + w_t * minimum_t.  Four rows at a time: their bytes are interleaved, so that a 32-bit lane holds
// the codes of one feature in four rows, and vpdpbusd multiplies them by the four weights.  Bound
// on a sum, beside float32's own: (rows of the tile) * 2^-24 * max(w * scale) * sum of codes.

#include "kernels/codecs/int_fixed.h"

#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
namespace kvlab::inline KVLAB_TARGET {

template <int B, class Params>
struct IntSums : IntSlice<B, Params> {
  static constexpr const char* kHow = "integer dot products";
  using Slice = IntSlice<B, Params>;

  /// Below 8 bits a chunk spans up to 8 groups, but one table permute reaches 4.
  static bool takes(const Params& p, int first, int features, int queries) {
    const int chunk = features < 512 / B ? features : 512 / B;
    return Slice::takes(p, first, features, queries) && (chunk - 1) >> p.group_log2 < 4;
  }
  static int64_t scratch_bytes(const Params& p, int features, int, int rows) {
    const Sets sets(Slice::groups(p, features), rows);
    return 128 * (int64_t{sets.slices} * sets.count + 1);
  }

  static void run(const ValueTile& a) {
    const Params& p = *static_cast<const Params*>(a.part.params);
    const TilePart& part = a.part;
    const Sets sets(Slice::groups(p, part.features), part.rows);
    float* products = reinterpret_cast<float*>(a.scratch);
    int32_t* digits = reinterpret_cast<int32_t*>(products + 16 * sets.slices * sets.count);
    prefetch_small(a.ahead, part.rows);
    constexpr int kPasses = Chunks<B>::kSubs == 4 ? 2 : 1;
    const int chunks = Chunks<B>::count(part.features);
    Prefetch ahead(a.ahead, part.rows, int64_t{a.rows} * chunks * kPasses * ((part.rows + 3) / 4));
    for (int r = 0; r < a.rows; ++r) {
      float* sums = a.sums + r * a.sum_stride;
      const float largest =
          multiply(part, p, sets, a.weights + r * a.weight_stride, products, sums);
      const FixedScale scale = FixedScale::of(largest);
      make_digits(sets, products, scale.up, digits);
      for (int k = 0; k < chunks; ++k) {
        add_codes<0>(part, p, k, sets, digits, scale.step, ahead, sums);
        if constexpr (kPasses == 2) add_codes<2>(part, p, k, sets, digits, scale.step, ahead, sums);
      }
    }
  }

 private:
  /// Weights times scales are handled in sets of 16: `rows` rows by `wide` groups, row after row.
  /// A row's groups are cut into slices of `wide`; sets are kept slice after slice.
  struct Sets {
    int groups, wide, wide_log2, rows, slices, count;  // count: of one slice
    Sets(int all_groups, int all_rows) : groups(all_groups) {
      wide_log2 = groups == 1 ? 0 : groups == 2 ? 1 : 2;
      wide = 1 << wide_log2;
      rows = 16 >> wide_log2;
      slices = (groups + wide - 1) / wide;
      count = (all_rows + rows - 1) / rows;
    }
  };

  /// float16 numbers of a set, 0 beyond the rows and groups that are there.
  static __m512 load_set(const u8* plane, int64_t stride, const Sets& sets, int slice, int rows) {
    const int n = rows < sets.rows ? rows : sets.rows;
    uint16_t set[16] = {};
    const int first = slice * sets.wide;
    const int here = sets.groups - first < sets.wide ? sets.groups - first : sets.wide;
    for (int t = 0; t < n; ++t)
      __builtin_memcpy(set + t * sets.wide, plane + t * stride + 2 * first, 2 * here);
    return _mm512_cvtph_ps(load_as<__m256i>(set));
  }

  /// What a pass over the weights of one slice finds.
  struct Products {
    __m512 total = _mm512_setzero_ps(), largest = _mm512_setzero_ps();
    KVLAB_HD void add(__m512 weight, __m512 scales, __m512 minima, float* products) {
      const __mmask16 on = _mm512_cmp_ps_mask(weight, _mm512_setzero_ps(), _CMP_NEQ_UQ);
      const __m512 product = _mm512_maskz_mul_ps(on, weight, scales);
      total = _mm512_mask3_fmadd_ps(weight, minima, total, on);
      largest = _mm512_max_ps(_mm512_abs_ps(product), largest);  // of a NaN: the other
      _mm512_storeu_ps(products, product);
    }
  };

  /// products = w * scale; sums += w * minimum; returns the largest product.  A row without weight
  /// counts as 0 whatever its scale.  A NaN scale comes with a NaN minimum, and that makes the sum
  /// NaN.
  static float multiply(const TilePart& part, const Params& p, const Sets& sets, const float* w,
                        float* products, float* sums) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i row_of = _mm512_srl_epi32(lane, _mm_cvtsi32_si128(sets.wide_log2));
    const int group = part.first_feature >> p.group_log2, step = sets.rows;
    const u8 *scale = plane(part, 1, group), *minimum = plane(part, 2, group);
    const int64_t stride = part.tile.stride[1];
    const bool packed = sets.groups == sets.wide && stride == 2 * sets.wide;
    float largest = 0.0f;
    for (int s = 0; s < sets.slices; ++s) {
      Products here;
      int t = 0;
      if (packed)
        for (; t + step <= part.rows; t += step, products += 16)
          here.add(_mm512_permutexvar_ps(row_of, _mm512_loadu_ps(w + t)),
                   (__m512)load_f16<16>(scale + t * stride),
                   (__m512)load_f16<16>(minimum + t * stride), products);
      for (; t < part.rows; t += step, products += 16) {
        const int left = part.rows - t;
        const __mmask16 some = left >= 16 ? 0xffff : (1 << left) - 1;
        here.add(_mm512_permutexvar_ps(row_of, _mm512_maskz_loadu_ps(some, w + t)),
                 load_set(scale + t * stride, stride, sets, s, left),
                 load_set(minimum + t * stride, stride, sets, s, left), products);
      }
      const float most = _mm512_reduce_max_ps(here.largest);
      largest = most > largest ? most : largest;
      float lanes[16];
      _mm512_storeu_ps(lanes, here.total);
      for (int i = sets.wide; i < 16; ++i) lanes[i % sets.wide] += lanes[i];
      for (int g = 0; g < sets.wide && s * sets.wide + g < sets.groups; ++g)
        add_constant(p, s * sets.wide + g, part.features, lanes[g], sums);
    }
    return largest;
  }
  KVLAB_HD static const u8* plane(const TilePart& part, int i, int group) {
    return part.tile.plane[i] + part.first_row * part.tile.stride[i] + 2 * group;
  }
  static void add_constant(const Params& p, int group, int features, float x, float* sums) {
    const int64_t end = static_cast<int64_t>(group + 1) << p.group_log2;
    const int last = end < features ? static_cast<int>(end) : features;
    for (int c = group << p.group_log2; c < last; ++c) sums[c] += x;
  }

  /// Digits of the products, for vpdpbusd: four rows of one group are the bytes of a lane.  A set
  /// has four such lanes; they are stored as [digit][lane].
  static void make_digits(const Sets& sets, const float* products, float up, int32_t* digits) {
    alignas(64) int32_t rows[16], transposed[16];
    for (int k = 0; k < 4; ++k)  // lane k of the set: rows 4 * quad .. 4 * quad + 3 of group g
      for (int i = 0; i < 4; ++i) {
        const int quad = k >> sets.wide_log2, g = k & (sets.wide - 1);
        rows[4 * k + i] = (4 * quad + i) * sets.wide + g;
        transposed[4 * k + i] = 4 * i + k;
      }
    // Bytes of a 128-bit lane, four fixed-point numbers: all a, all b, all c.
    const __m512i by_digit = _mm512_broadcast_i32x4(
        _mm_setr_epi8(2, 6, 10, 14, 1, 5, 9, 13, 0, 4, 8, 12, -1, -1, -1, -1));
    for (int i = 0; i < 16 * sets.slices * sets.count; i += 16) {
      const __m512i fixed = digits_of(
          _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(products + i), _mm512_set1_ps(up))));
      const __m512i sorted =
          _mm512_shuffle_epi8(_mm512_permutexvar_epi32(_mm512_load_si512(rows), fixed), by_digit);
      _mm512_storeu_si512(digits + i,
                          _mm512_permutexvar_epi32(_mm512_load_si512(transposed), sorted));
    }
  }

  /// Subs s and s + 1 of chunk k: up to 8 vectors of 16 features, three digits each, in registers.
  template <int s>
  static void add_codes(const TilePart& part, const Params& p, int k, const Sets& sets,
                        const int32_t* digits, float step, Prefetch& ahead, float* sums) {
    constexpr int S = B == 8 ? 1 : 2;
    constexpr int J = B == 2 ? 2 : 1;  // vectors of a chunk's bytes whose lanes' groups differ
    int base;
    const __m512i lanes = Chunks<B>::groups(part.features, p.group_log2, k, &base);
    __m512i from[J][kDigits];  // where each lane finds its weights
    for (int j = 0; j < J; ++j)
      for (int d = 0; d < kDigits; ++d)
        from[j][d] = _mm512_add_epi32(j == 0 ? _mm512_shuffle_epi32(lanes, _MM_PERM_AAAA)
                                             : _mm512_shuffle_epi32(lanes, _MM_PERM_CCCC),
                                      _mm512_set1_epi32(4 * d));
    digits += 16 * int64_t{base / 4} * sets.count + base % 4;
    const __mmask64 mask = Chunks<B>::mask(part.features, k);
    const int64_t stride = part.tile.stride[0];
    const u8* codes =
        part.tile.plane[0] + part.first_row * stride + part.first_feature * B / 8 + 64 * k;
    __m512i acc[S][4][kDigits] = {};
    for (int t = 0; t < part.rows; t += 4, codes += 4 * stride) {
      ahead.next();
      const int last = part.rows - t - 1;  // beyond it: the last row again, without weight
      const __m512i row[4] = {_mm512_maskz_loadu_epi8(mask, codes),
                              _mm512_maskz_loadu_epi8(mask, codes + (last >= 1 ? stride : 0)),
                              _mm512_maskz_loadu_epi8(mask, codes + (last >= 2 ? 2 * stride : 0)),
                              _mm512_maskz_loadu_epi8(mask, codes + (last >= 3 ? 3 * stride : 0))};
      const __m512i low02 = _mm512_unpacklo_epi8(row[0], row[2]);
      const __m512i low13 = _mm512_unpacklo_epi8(row[1], row[3]);
      const __m512i high02 = _mm512_unpackhi_epi8(row[0], row[2]);
      const __m512i high13 = _mm512_unpackhi_epi8(row[1], row[3]);
      // 32-bit lane i of 128-bit lane q of bytes[j]: byte 16q + 4j + i of the chunk in four rows.
      const __m512i bytes[4] = {
          _mm512_unpacklo_epi8(low02, low13), _mm512_unpackhi_epi8(low02, low13),
          _mm512_unpacklo_epi8(high02, high13), _mm512_unpackhi_epi8(high02, high13)};
      const int quad = t >> 2, quads_log2 = 2 - sets.wide_log2;  // of a set
      const int32_t* set =
          digits + 16 * (quad >> quads_log2) + ((quad & ((1 << quads_log2) - 1)) << sets.wide_log2);
      __m512i weight[J][kDigits];
#pragma GCC unroll 2
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 3
        for (int d = 0; d < kDigits; ++d)
          weight[j][d] = _mm512_permutexvar_epi32(from[j][d], _mm512_loadu_si512(set));
#pragma GCC unroll 2
      for (int u = 0; u < S; ++u)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const __m512i code = Chunks<B>::codes(bytes[j], s + u);
#pragma GCC unroll 3
          for (int d = 0; d < kDigits; ++d)
            acc[u][j][d] = _mm512_dpbusd_epi32(acc[u][j][d], code, weight[j * J / 4][d]);
        }
    }
    __m512i stored[S][4][kDigits];  // a copy: an array whose address is taken is not in registers
#pragma GCC unroll 2
    for (int u = 0; u < S; ++u)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
#pragma GCC unroll 3
        for (int d = 0; d < kDigits; ++d) stored[u][j][d] = acc[u][j][d];
    for (int u = 0; u < S; ++u) scatter(stored[u], step, part.features, k, s + u, sums);
  }

  /// Sums of sub s of the 64 bytes of chunk k, to the features they are of.
  static void scatter(const __m512i (&acc)[4][kDigits], float step, int width, int k, int s,
                      float* sums) {
    __m512 v[4];
    for (int j = 0; j < 4; ++j) {
      v[j] = _mm512_cvtepi32_ps(acc[j][2]);
      v[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[j][1]), _mm512_set1_ps(256.0f), v[j]);
      v[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[j][0]), _mm512_set1_ps(65536.0f), v[j]);
      v[j] = _mm512_mul_ps(v[j], _mm512_set1_ps(step));
    }
    const __m512 a = _mm512_shuffle_f32x4(v[0], v[1], 0x44);
    const __m512 b = _mm512_shuffle_f32x4(v[0], v[1], 0xee);
    const __m512 c = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
    const __m512 d = _mm512_shuffle_f32x4(v[2], v[3], 0xee);
    float byte[64];
    _mm512_storeu_ps(byte, _mm512_shuffle_f32x4(a, c, 0x88));
    _mm512_storeu_ps(byte + 16, _mm512_shuffle_f32x4(a, c, 0xdd));
    _mm512_storeu_ps(byte + 32, _mm512_shuffle_f32x4(b, d, 0x88));
    _mm512_storeu_ps(byte + 48, _mm512_shuffle_f32x4(b, d, 0xdd));
    constexpr int kBlocks = 64 / Codes<B>::kBlockBytes, kRun = Codes<B>::kBlockBytes;
    for (int i = 0; i < kBlocks && (k * kBlocks + i) * 32 < width; ++i) {
      const int block = k * kBlocks + i, n = Codes<B>::features(width, block);
      constexpr int W = kRun < 16 ? kRun : 16;
      float* to = sums + block * 32 + s * (n * B / 8);
      if (n == 32)
        for (int j = 0; j < kRun; j += W)
          store_f32<W>(to + j, load_f32<W>(to + j) + load_f32<W>(byte + i * kRun + j));
      else
        for (int j = 0; j < n * B / 8; ++j) to[j] += byte[i * kRun + j];
    }
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
#endif
