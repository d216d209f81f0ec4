#pragma once
// Rows as floating-point numbers of one format.
//
//   plane 0: `width` little-endian numbers per row.
//
// fp32 is exact.  fp16 and bf16 round to nearest even: |decoded - x| <= 2^-11 |x| (fp16, for 2^-14
// <= |x| <= 65504; 2^-25 below) and 2^-8 |x| (bf16, normal numbers).  A number that overflows fp16
// is refused and decodes to infinity; bf16 overflows only above 3.39e38, to infinity as well.

#include "kernels/codec.h"
#if !KVLAB_ON_CUDA
#include "kernels/codecs/bf16_dots.h"
#endif

namespace kvlab::inline KVLAB_TARGET {

struct Fp32Format {
  static constexpr int kBytes = 4;
  template <int W>
  KVLAB_HD static F<W> load(const u8* p) {
    return load_f32<W>(p);
  }
  template <int W>
  KVLAB_HD static void store(u8* p, F<W> v) {
    store_f32<W>(p, v);
  }
};
struct Fp16Format {
  static constexpr int kBytes = 2;
  template <int W>
  KVLAB_HD static F<W> load(const u8* p) {
    return load_f16<W>(p);
  }
  template <int W>
  KVLAB_HD static void store(u8* p, F<W> v) {
    store_f16<W>(p, v);
  }
};
struct Bf16Format {
  static constexpr int kBytes = 2;
  template <int W>
  KVLAB_HD static F<W> load(const u8* p) {
    return load_bf16<W>(p);
  }
  template <int W>
  KVLAB_HD static void store(u8* p, F<W> v) {
    store_bf16<W>(p, v);
  }
};

struct FloatParams {
  int32_t width = 0;
};

/// What rows have in common whose numbers are coded one by one, by
///   Row::put<W>(from, tile, row, feature)   W = 8, 1: false when a finite number did not fit
struct NumberRow {
  using Params = FloatParams;
  using State = NoState;
  static constexpr Major kMajor = Major::token;
  static constexpr int kPart = 32;  // features of one part

  KVLAB_HD static int tile_rows(const Params&) { return 1; }
  KVLAB_HD static int parts(const Params& p) { return (p.width + kPart - 1) / kPart; }

  template <class Row>
  KVLAB_HD static bool put_part(const Params& p, const FloatRows& x, const MutableTile& t, int row,
                                int part) {
    const float* from = x.data + row * x.stride;
    const int end = p.width < (part + 1) * kPart ? p.width : (part + 1) * kPart;
    bool fits = true;
    for (int c = part * kPart; c < end;) {
      if (end - c >= 8) {
        fits &= Row::template put<8>(from + c, t, row, c);
        c += 8;
      } else {
        fits &= Row::template put<1>(from + c, t, row, c);
        c += 1;
      }
    }
    return fits;
  }

  /// False when finite numbers were stored as an infinity.
  template <int W>
  KVLAB_HD static bool stay_finite(F<W> x, F<W> stored) {
    const F<W> zero = splat<W>(0.0f);
    return is_finite(add_lanes<W>(stored * zero)) || !is_finite(add_lanes<W>(x * zero));
  }
};

template <class Format>
struct FloatRow : NumberRow {
  KVLAB_HD static Planes planes(const Params& p) {
    return {{{Format::kBytes * p.width, 0, false}}, 1};
  }

  template <int W>
  KVLAB_HD static F<W> decode(const Params&, const Tile& t, int row, int feature, const State&) {
    return Format::template load<W>(t.plane[0] + row * t.stride[0] + Format::kBytes * feature);
  }

  KVLAB_HD static bool encode(const Params& p, const FloatRows& x, const MutableTile& t, int row,
                              int part) {
    return put_part<FloatRow>(p, x, t, row, part);
  }

  template <int W>
  KVLAB_HD static bool put(const float* from, const MutableTile& t, int row, int feature) {
    u8* to = t.plane[0] + row * t.stride[0] + Format::kBytes * feature;
    const F<W> x = load_f32<W>(from);
    Format::template store<W>(to, x);
    if constexpr (Format::kBytes == 4) return true;
    return stay_finite<W>(x, Format::template load<W>(to));
  }
};

struct Fp32 : FloatRow<Fp32Format> {};
struct Fp16 : FloatRow<Fp16Format> {};
struct Bf16 : FloatRow<Bf16Format> {
#if !KVLAB_ON_CUDA && KVLAB_ISA >= KVLAB_ISA_AVX512BF16
  using Dots = Bf16Dots<FloatParams>;
#endif
};

}  // namespace kvlab::inline KVLAB_TARGET
