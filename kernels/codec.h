#pragma once
// The codec contract: what turns stored bytes into numbers, and nothing else.
//
// g++ reads this header (once per instruction set), nvcc, and NVRTC, so a codec includes this and
// nothing from the standard library.  A codec is a struct without objects; all hooks are static,
// pure and KVLAB_HD.  Attention loops, masks, softmax, splitting and merging are the engine's.
//
//   Params               trivially copyable, at most kMaxParamsBytes, with `int32_t width`
//   State                what an item of work carries for its codec; empty for most
//   kMajor               Major::token: decode<W> gives W features of one row;
//                        Major::channel: W rows of one feature
//   tile_rows(p)         rows encoded together; 1: any row alone
//   planes(p)            bytes
//   parts(p)             independent parts of a row (or tile) for `encode`
//   encode(p, rows, tile, row, part)
//                        writes one part of row `row` (of the whole tile where tile_rows > 1, row
//                        0). rows: float32.  False: a finite number does not fit the format; its
//                        part then decodes to NaN.  Numbers that are not finite decode to NaN or
//                        infinity.
//   decode<W>(p, tile, row, feature, state)
//                        W = 1, 4, 8, 16; `feature` (or `row`, channel-major) is a multiple of W
//                        and the last lane is inside the row (tile).  decode<16> equals two
//                        decode<8>.
//
// Optional, found by name and then called on every path:
//   begin(p, item, state)          once per item of work, before its first tile
//   enter(p, tile, state)          before the rows of a tile are read
//   skip(p, feature, state)        channel-major score side: true: leave this feature out
//   weigh(p, tile, row, w, state)  value side: w >= the row's final probability in every query row;
//                                  false: the row is not read
//   bytes(p, tile, state)          bytes of `tile` that were read; default: all of its rows
//   error(p, state)                certified bound on what was left out
//
// Optional on the CPU, where the instruction set has what they need (kernels/codec_table.h says how
// they are called): Dots, dot products straight from codes; Sums, weighted sums straight from
// codes. Each says which calls it takes; the others go through decode.

#include "kernels/tile.h"
#include "kernels/vec.h"

namespace kvlab {

enum class Major : u8 { token, channel };

inline constexpr int kMaxParamsBytes = 64;

}  // namespace kvlab

namespace kvlab::inline KVLAB_TARGET {

struct NoState {};

#if defined(__cpp_concepts) && !defined(__CUDACC_RTC__)
template <class A, class B>
inline constexpr bool kIsSame = false;
template <class A>
inline constexpr bool kIsSame<A, A> = true;

template <class C>
concept RowCodec = requires(const typename C::Params& p, const typename C::State& s, const Tile& t,
                            const MutableTile& m, const FloatRows& x) {
  requires sizeof(typename C::Params) <= kMaxParamsBytes;
  requires kIsSame<decltype(C::kMajor), const Major>;
  requires kIsSame<decltype(C::tile_rows(p)), int>;
  requires kIsSame<decltype(C::parts(p)), int>;
  requires kIsSame<decltype(C::planes(p)), Planes>;
  requires kIsSame<decltype(C::encode(p, x, m, 0, 0)), bool>;
  requires kIsSame<decltype(C::template decode<8>(p, t, 0, 0, s)), F<8>>;
};
#endif

}  // namespace kvlab::inline KVLAB_TARGET
