#pragma once
// Vectors of W numbers, W in {1, 4, 8, 16}, and the few operations codecs are written in.  The same
// names on both devices: the compilers' vector extension on the CPU, a small array on CUDA.
//
// Every operation is IEEE: rounded once, to nearest even, and never contracted (files that include
// this are compiled with -ffp-contract=off; on CUDA the operators are the _rn intrinsics), so a
// codec gives the same bits everywhere.
//
//   F<W>                      float32
//   splat<W>(x)               all lanes x
//   concat<W>(low, high)      of two F<W / 2>
//   a + b, a - b, a * b       lane by lane
//   fma<W>(a, b, c)           a * b + c, rounded once
//   min<W>, max<W>            lane by lane; if a lane is NaN the second operand
//   round_even<W>(x)          to the nearest integer, ties to even; |x| < 2^22
//   power_below<W>(x)         the largest power of two at most |x|; of subnormals 0, of infinities
//                             and NaN infinity
//   two_over<W>(p)            2 / p of a normal power of two
//   load_f32/f16/bf16<W>(p)   numbers of that format, any alignment (CUDA: of one number)
//   load_i8<W>(p)             signed bytes
//   load_bits<W>(p, s, mask)  (byte >> s) & mask
//   store_f32/f16/bf16<W>     rounded to nearest even; NaN stays NaN
//   add_lanes<W>(v)           v[0] + v[1] + ..., by halves: lane i + lane i + W/2 first
// and of single numbers: half_value(bits), half_bits(x), half_bits_down(x), half_bits_up(x),
// bf16_value(bits), bf16_bits(x), is_finite(x).

#include "kernels/target.h"

#if KVLAB_ON_CUDA
#include "kernels/vec_cuda.h"
#else
#include "kernels/vec_cpu.h"
#endif

namespace kvlab::inline KVLAB_TARGET {

KVLAB_HD bool is_finite(float x) { return x - x == 0.0f; }  // NOLINT(misc-redundant-expression)

/// The largest float16 at most x, and the smallest at least x: infinite beyond the format's range.
KVLAB_HD uint16_t half_bits_down(float x) {
  const uint16_t nearest = half_bits(x);
  if (!(half_value(nearest) > x)) return nearest;
  if (nearest == 0x0000) return 0x8001;  // +0 is above a tiny negative x
  return static_cast<uint16_t>(nearest & 0x8000 ? nearest + 1 : nearest - 1);
}
KVLAB_HD uint16_t half_bits_up(float x) {
  return static_cast<uint16_t>(half_bits_down(-x) ^ 0x8000);
}

}  // namespace kvlab::inline KVLAB_TARGET
