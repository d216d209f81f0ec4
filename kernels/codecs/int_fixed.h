#pragma once
// What scores and sums of integer codes by vpdpbusd share.  That instruction adds 4 products of an
// unsigned byte, the code, and a signed byte per 32-bit lane.
//
// The other factor, query or weight, becomes fixed point: x = step * n with |n| <= 127 * 2^16 and n
// = 2^16 a + 2^8 b + c, where a, b, c are signed bytes (balanced digits).  So each number is off by
// at most max|x| * 2^-24: float32's precision for the largest.  Integer sums are exact; scales
// multiply the sum of a group, in float32.
//
// Bytes of a row are taken 64 at a time, a chunk; sub s of a byte is its B bits from s * B on.

#include "kernels/codecs/int_layout.h"
#include "kernels/lanes.h"

#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
namespace kvlab::inline KVLAB_TARGET {

inline constexpr float kFixedMax = 127.0f * 65536.0f;
inline constexpr int kDigits = 3;  // a, b, c

/// a, b, c of each lane as its bytes 2, 1, 0.
KVLAB_HD __m512i digits_of(__m512i n) {
  const __m512i half = _mm512_set1_epi32(0x808080);
  return _mm512_xor_si512(_mm512_add_epi32(n, half), half);
}
/// step and 1 / step for numbers up to `largest`; a NaN or an infinity stays in `step`.
struct FixedScale {
  float step = 0, up = 0;
  static FixedScale of(float largest) {
    FixedScale s{largest, 0};
    if (largest > 1e-30f && is_finite(largest)) s = {largest / kFixedMax, kFixedMax / largest};
    return s;
  }
};

template <int B>
struct Chunks {
  static constexpr int kSubs = 8 / B;

  KVLAB_HD static int count(int width) { return (width * B / 8 + 63) / 64; }
  /// Bytes of a chunk that belong to the row.
  KVLAB_HD static __mmask64 mask(int width, int chunk) {
    const int left = width * B / 8 - chunk * 64;
    return left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
  }
  KVLAB_HD static __m512i codes(__m512i bytes, int sub) {
    if constexpr (B == 8) return bytes;
    const __m512i shifted = sub == 0 ? bytes : _mm512_srli_epi16(bytes, sub * B);
    return _mm512_and_si512(shifted, _mm512_set1_epi8(Codes<B>::kMask));
  }
  /// The group of each 32-bit lane of a chunk, counted from the group of its first lane.
  KVLAB_HD static __m512i groups(int width, int group_log2, int chunk, int* first) {
    *first = chunk * 512 / B >> group_log2;
    const int last = (width - 1) >> group_log2;
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i byte =
        _mm512_add_epi32(_mm512_slli_epi32(lane, 2), _mm512_set1_epi32(chunk * 64));
    // A block of 32 features is 4 * B bytes.
    const __m512i feature = _mm512_slli_epi32(_mm512_srli_epi32(byte, B == 8   ? 5
                                                                      : B == 4 ? 4
                                                                               : 3),
                                              5);
    const __m512i group = _mm512_srl_epi32(feature, _mm_cvtsi32_si128(group_log2));
    return _mm512_sub_epi32(_mm512_min_epi32(group, _mm512_set1_epi32(last)),
                            _mm512_set1_epi32(*first));
  }
};

KVLAB_HD __m512 halves(const u8* from, __mmask16 some) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, from));
}

/// float16 numbers [rows][count], rows `stride` bytes apart, to packed float32; up to 15 more
/// floats are written.
KVLAB_HD void load_halves(const u8* from, int64_t stride, int rows, int count, float* to) {
  const bool packed = stride == 2 * count;
  const int n = packed ? rows * count : count;
  for (int r = 0; r < (packed ? 1 : rows); ++r, from += stride, to += count) {
    int i = 0;
    for (; i + 16 <= n; i += 16) store_f32<16>(to + i, load_f16<16>(from + 2 * i));
    if (i < n) _mm512_storeu_ps(to + i, halves(from + 2 * i, (1 << (n - i)) - 1));
  }
}

/// What both take: features that begin and end with blocks and hold whole groups.
template <int B, class Params>
struct IntSlice {
  static bool takes(const Params& p, int first, int features, int) {
    const int last = first + features, group = 1 << p.group_log2;
    const bool blocks = first % Codes<B>::kBlock == 0 &&
                        (last == p.width || last % Codes<B>::kBlock == 0) && features % 8 == 0;
    const bool groups = first % group == 0 || first / group == (last - 1) / group;
    return blocks && groups;
  }
  static int groups(const Params& p, int features) { return ((features - 1) >> p.group_log2) + 1; }
  /// Of one float32 per row and group, and what whole vectors may touch beyond.
  static int64_t array_bytes(const Params& p, int features, int rows) {
    return int64_t{4} * round_up(groups(p, features) * round_up(rows, 16) + 32, 16);
  }
  /// Plane `plane` of a part, in float32.
  static void load(const TilePart& part, const Params& p, int plane, float* to) {
    const int64_t stride = part.tile.stride[plane];
    load_halves(
        part.tile.plane[plane] + part.first_row * stride + 2 * (part.first_feature >> p.group_log2),
        stride, part.rows, groups(p, part.features), to);
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
#endif
