#pragma once
// Rows as unsigned codes of B bits, B in {8, 4, 2}, with a scale and a minimum per group:
//
//   x = scale * code + minimum,  0 <= code <= 2^B - 1,  scale and minimum float16
//
// Token axis (IntToken): a group is `group` consecutive features of one row (a power of two from 32
// on, or the whole row; the last group may be shorter).  Channel axis (IntChannel): a group is one
// feature of `group` consecutive rows, a tile.
//
//   plane 0: codes, width * B / 8 bytes per row
//   plane 1: scales, float16; token axis: one per group of the row, channel axis: one per feature
//   of
//            the tile
//   plane 2: minima, likewise
//
// Codes of a row, both axes: blocks of 32 features, the last one shorter.  A block of n features
// takes R = n * B / 8 bytes; byte j holds feature j in its lowest B bits, feature j + R in the next
// B, and so on.  So 16 consecutive features of 4 bits are one load and one shift.  8 bits: byte i
// is feature i. Below 8 bits the width is a multiple of 8.
//
// Encoding: minimum = lo rounded down, scale = (hi - minimum) / (2^B - 1) rounded up, both to
// float16; code = round((x - minimum) / scale).  Directed rounding makes [minimum, minimum + (2^B -
// 1) * scale] cover the group, so |decoded - x| <= scale / 2 + 2^-21 max(|lo|, |hi|) (the last
// term: float32 arithmetic).  A constant group whose value is a float16 decodes exactly.  A group
// whose minimum or scale leaves float16 is refused; it and one with a NaN or an infinity decode to
// NaN throughout. Bytes per token, width d: d B / 8 + 4 ceil(d / group); channel axis d B / 8 + 4 d
// / group.

#include "kernels/codecs/int_layout.h"
#if !KVLAB_ON_CUDA
#include "kernels/codecs/int_dots.h"
#include "kernels/codecs/int_sums.h"
#endif

namespace kvlab::inline KVLAB_TARGET {

/// One group's scale and minimum as they are stored, and what encoding needs of them.
struct GroupScale {
  uint16_t scale = 0, minimum = 0;
  float low = 0, inverse = 0;
  bool fits = true;

  /// lo, hi: the group's range.  zero: 0, or NaN when one of its numbers is not finite.
  KVLAB_HD static GroupScale of(float lo, float hi, float zero, float levels) {
    GroupScale g;
    g.minimum = half_bits_down(lo);
    g.low = half_value(g.minimum);
    g.scale = half_bits_up((hi - g.low) / levels);
    const float scale = half_value(g.scale);
    if (zero != 0.0f || !is_finite(g.low) || !is_finite(scale)) {
      g.fits = zero != 0.0f;
      g.scale = g.minimum = 0x7e00;  // NaN
      g.low = 0.0f;
    } else {
      g.inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    }
    return g;
  }
};

/// The range of a set of numbers, lane by lane.
template <int W>
struct RangeOf {
  F<W> lo = splat<W>(3.402823466e38f), hi = splat<W>(-3.402823466e38f), zero = splat<W>(0.0f);
  KVLAB_HD void add(const float* x) {
    const F<W> v = load_f32<W>(x);
    lo = min<W>(v, lo);
    hi = max<W>(v, hi);
    zero = fma<W>(v, splat<W>(0.0f), zero);
  }
  /// Lane `first` + k of each goes to lo[k], hi[k], zero[k].
  KVLAB_HD void store(float* to_lo, float* to_hi, float* to_zero) const {
    store_f32<W>(to_lo, lo);
    store_f32<W>(to_hi, hi);
    store_f32<W>(to_zero, zero);
  }
};

/// What both axes share: quantising one block of a row.
template <int B>
struct IntBlock {
  static constexpr float kLevels = (1 << B) - 1;

  /// x, low, inverse: of the block's features.
  KVLAB_HD static void encode(u8* row, int width, int block, const float* x, const float* low,
                              const float* inverse) {
    u8 codes[Codes<B>::kBlock];
    const int n = Codes<B>::features(width, block);
    int i = 0;
    for (; i + 8 <= n; i += 8) quantise<8>(x + i, low + i, inverse + i, codes + i);
    for (; i < n; ++i) quantise<1>(x + i, low + i, inverse + i, codes + i);
    Codes<B>::store(row, width, block, codes);
  }

 private:
  template <int W>
  KVLAB_HD static void quantise(const float* x, const float* low, const float* inverse, u8* to) {
    const F<W> q = round_even<W>((load_f32<W>(x) - load_f32<W>(low)) * load_f32<W>(inverse));
    store_bytes<W>(to, to_bits<W>(min<W>(max<W>(q, splat<W>(0.0f)), splat<W>(kLevels))));
  }
};

template <int B>
struct IntToken {
  struct Params {
    int32_t width = 0;
    int32_t group_log2 = 30;  // 30: the whole row
  };
  using State = NoState;
#if !KVLAB_ON_CUDA && KVLAB_ISA >= KVLAB_ISA_AVX512BF16
  using Dots = IntDots<B, Params>;
  using Sums = IntSums<B, Params>;
#endif
  static constexpr Major kMajor = Major::token;

  KVLAB_HD static int tile_rows(const Params&) { return 1; }
  KVLAB_HD static int parts(const Params& p) { return ((p.width - 1) >> p.group_log2) + 1; }
  KVLAB_HD static Planes planes(const Params& p) {
    const int meta = 2 * parts(p);
    return {{{p.width * B / 8, 0, false}, {meta, 0, true}, {meta, 0, true}}, 3};
  }

  template <int W>
  KVLAB_HD static F<W> decode(const Params& p, const Tile& t, int row, int feature, const State&) {
    const int at = 2 * (feature >> p.group_log2);
    const float scale = half_value(load_as<uint16_t>(t.plane[1] + row * t.stride[1] + at));
    const float minimum = half_value(load_as<uint16_t>(t.plane[2] + row * t.stride[2] + at));
    const F<W> codes = Codes<B>::template load<W>(t.plane[0] + row * t.stride[0], p.width, feature);
    return fma<W>(splat<W>(scale), codes, splat<W>(minimum));
  }

  KVLAB_HD static bool encode(const Params& p, const FloatRows& rows, const MutableTile& t, int row,
                              int group) {
    const float* x = rows.data + row * rows.stride;
    const int first = group << p.group_log2;
    const int64_t end = static_cast<int64_t>(group + 1) << p.group_log2;
    const int last = end < p.width ? static_cast<int>(end) : p.width;
    const GroupScale scale = scale_of(x, first, last);
    store_as(t.plane[1] + row * t.stride[1] + 2 * group, scale.scale);
    store_as(t.plane[2] + row * t.stride[2] + 2 * group, scale.minimum);
    float low[Codes<B>::kBlock], inverse[Codes<B>::kBlock];
    for (int i = 0; i < Codes<B>::kBlock; ++i) {
      low[i] = scale.low;
      inverse[i] = scale.inverse;
    }
    for (int c = first; c < last; c += Codes<B>::kBlock)
      IntBlock<B>::encode(t.plane[0] + row * t.stride[0], p.width, c / Codes<B>::kBlock, x + c, low,
                          inverse);
    return scale.fits;
  }

 private:
  KVLAB_HD static GroupScale scale_of(const float* x, int first, int last) {
    RangeOf<8> range;
    RangeOf<1> tail;
    int c = first;
    for (; c + 8 <= last; c += 8) range.add(x + c);
    for (; c < last; ++c) tail.add(x + c);
    float lo[9], hi[9], zero[9];
    range.store(lo, hi, zero);
    tail.store(lo + 8, hi + 8, zero + 8);
    for (int i = 1; i < 9; ++i) {
      lo[0] = lo[i] < lo[0] ? lo[i] : lo[0];
      hi[0] = hi[i] > hi[0] ? hi[i] : hi[0];
      zero[0] += zero[i];
    }
    return GroupScale::of(lo[0], hi[0], zero[0], IntBlock<B>::kLevels);
  }
};

template <int B>
struct IntChannel {
  struct Params {
    int32_t width = 0;
    int32_t rows = 0;  // of a tile
  };
  using State = NoState;
  static constexpr Major kMajor = Major::token;

  KVLAB_HD static int tile_rows(const Params& p) { return p.rows; }
  KVLAB_HD static int parts(const Params& p) { return Codes<B>::blocks(p.width); }
  KVLAB_HD static Planes planes(const Params& p) {
    return {{{p.width * B / 8, 0, false}, {0, 2 * p.width, true}, {0, 2 * p.width, true}}, 3};
  }

  template <int W>
  KVLAB_HD static F<W> decode(const Params& p, const Tile& t, int row, int feature, const State&) {
    const F<W> codes = Codes<B>::template load<W>(t.plane[0] + row * t.stride[0], p.width, feature);
    return fma<W>(load_f16<W>(t.plane[1] + 2 * feature), codes,
                  load_f16<W>(t.plane[2] + 2 * feature));
  }

  KVLAB_HD static bool encode(const Params& p, const FloatRows& x, const MutableTile& t, int,
                              int block) {
    const int first = block * Codes<B>::kBlock, n = Codes<B>::features(p.width, block);
    float lo[Codes<B>::kBlock], hi[Codes<B>::kBlock], zero[Codes<B>::kBlock];
    int c = 0;
    for (; c + 8 <= n; c += 8) range<8>(p, x, first, c, lo, hi, zero);
    for (; c < n; ++c) range<1>(p, x, first, c, lo, hi, zero);
    bool fits = true;
    for (c = 0; c < n; ++c) {
      const GroupScale scale = GroupScale::of(lo[c], hi[c], zero[c], IntBlock<B>::kLevels);
      store_as(t.plane[1] + 2 * (first + c), scale.scale);
      store_as(t.plane[2] + 2 * (first + c), scale.minimum);
      lo[c] = scale.low;
      hi[c] = scale.inverse;
      fits &= scale.fits;
    }
    for (int r = 0; r < p.rows; ++r)
      IntBlock<B>::encode(t.plane[0] + r * t.stride[0], p.width, block,
                          x.data + r * x.stride + first, lo, hi);
    return fits;
  }

 private:
  template <int W>
  KVLAB_HD static void range(const Params& p, const FloatRows& x, int first, int c, float* lo,
                             float* hi, float* zero) {
    RangeOf<W> range;
    for (int r = 0; r < p.rows; ++r) range.add(x.data + r * x.stride + first + c);
    range.store(lo + c, hi + c, zero + c);
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
