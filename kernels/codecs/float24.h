#pragma once
// Rows as floating-point numbers of 16 bits and 8 bits that correct each: the 24-bit keys of slim
// attention (arXiv 2503.05840), from which values are computed.
//
//   plane 0: `width` little-endian numbers hi per row, float16 (float24) or bfloat16 (bfloat24).
//   plane 1: `width` signed bytes lo per row.
//
// hi is x rounded to nearest even, lo = clamp(round((x - hi) * 256 / ulp(hi)), -128, 127), to
// nearest even as well, and what is read is hi + lo * ulp(hi) / 256.  ulp(hi) is what hi's last bit
// is worth: 2^-10 (float16) or 2^-7 (bfloat16) times the largest power of two at most |hi|, that
// power not below the smallest normal number, 2^-14 or 2^-126.  Difference, product and sum are
// exact in float32.
//
// |x - hi| is at most half an ulp, 128 steps of ulp(hi) / 256, so before the clamp lo is in
// [-128, 128] and |read - x| is at most
//   half a step, 2^-9 ulp(hi), where it is below 128;
//   a step, 2^-8 ulp(hi), where it is 128 and stored as 127: x - hi is at least 127.5 steps.
// In terms of x, as ulp(hi) is twice ulp(x) only where |x| was rounded up to a power of two, and
// then it is the first case (x is within 64 steps of hi):
//   float24   2^-18 |x| for 2^-14 <= |x| <= 65504, 2^-32 below
//   bfloat24  2^-15 |x| for |x| >= 2^-126, 2^-141 below
// Numbers of hi's own format are exact, -0 too.  float16 numbers in bfloat24 are not all: of their
// 11 bits hi takes 8 and lo could hold the others, but ties that are rounded down, as 1 + 2^-8 is,
// want lo = 128.
//
// A number that overflows hi's format is refused, as in kernels/codecs/float.h.  Where hi is not
// finite it is what is read, whatever lo is.

#include "kernels/codecs/float.h"

namespace kvlab::inline KVLAB_TARGET {

/// kUlp: of 1.  kLeast, kMost: powers of two that normal numbers begin with.
struct Fp16Hi : Fp16Format {
  static constexpr float kUlp = 0x1p-10f, kLeast = 0x1p-14f, kMost = 0x1p15f;
};
struct Bf16Hi : Bf16Format {
  static constexpr float kUlp = 0x1p-7f, kLeast = 0x1p-126f, kMost = 0x1p127f;
};

template <class Hi>
struct CorrectedRow : NumberRow {
  KVLAB_HD static Planes planes(const Params& p) {
    return {{{Hi::kBytes * p.width, 0, false}, {p.width, 0, false}}, 2};
  }

  template <int W>
  KVLAB_HD static F<W> decode(const Params&, const Tile& t, int row, int feature, const State&) {
    const F<W> hi = Hi::template load<W>(t.plane[0] + row * t.stride[0] + Hi::kBytes * feature);
    const F<W> lo = load_i8<W>(t.plane[1] + row * t.stride[1] + feature);
    // (-lo) * (-step): 0 steps are then -0, which added to -0 leaves it -0.
    const F<W> minus_lo = splat<W>(0.0f) - lo;
    return fma<W>(minus_lo, binade_of<W>(hi) * splat<W>(-Hi::kUlp / 256), hi);
  }

  KVLAB_HD static bool encode(const Params& p, const FloatRows& x, const MutableTile& t, int row,
                              int part) {
    return put_part<CorrectedRow>(p, x, t, row, part);
  }

  template <int W>
  KVLAB_HD static bool put(const float* from, const MutableTile& t, int row, int feature) {
    u8* to = t.plane[0] + row * t.stride[0] + Hi::kBytes * feature;
    const F<W> x = load_f32<W>(from);
    Hi::template store<W>(to, x);
    const F<W> hi = Hi::template load<W>(to);
    const F<W> steps = (x - hi) * two_over<W>(binade_of<W>(hi)) * splat<W>(128 / Hi::kUlp);
    const F<W> lo = max<W>(min<W>(round_even<W>(steps), splat<W>(127.0f)), splat<W>(-128.0f));
    store_bytes<W>(t.plane[1] + row * t.stride[1] + feature, to_bits<W>(lo));
    return stay_finite<W>(x, hi);
  }

 private:
  /// The power of two of which hi's ulp is kUlp; finite for all hi.
  template <int W>
  KVLAB_HD static F<W> binade_of(F<W> hi) {
    return min<W>(max<W>(power_below<W>(hi), splat<W>(Hi::kLeast)), splat<W>(Hi::kMost));
  }
};

struct Float24 : CorrectedRow<Fp16Hi> {};
struct Bfloat24 : CorrectedRow<Bf16Hi> {};

}  // namespace kvlab::inline KVLAB_TARGET
