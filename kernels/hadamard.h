#pragma once
// The orthogonal rotation of rows before coding.
//
// With p the largest power of two that divides the width r: y = (I (x) H_p) P x, where P puts
// channels b, b + r/p, b + 2r/p, ... into block b and H_p is Sylvester's matrix over sqrt(p).  The
// stride mixes channels that lie far apart, so that a few large ones spread over all blocks.  p >=
// 16 (has_hadamard); y and x have equal norms, and back(forth(x)) = x up to rounding: each of the
// log2(p) levels rounds once, so |error| <= log2(p) * 2^-23 * |x|.

namespace kvlab {

inline constexpr int kMaxHadamardWidth = 16384;

constexpr int hadamard_block(int width) { return width & -width; }
constexpr bool has_hadamard(int width) {
  return width > 0 && width <= kMaxHadamardWidth && hadamard_block(width) >= 16;
}

}  // namespace kvlab
