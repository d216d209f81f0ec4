#pragma once
// Rows on their way between caches: their bytes as they are stored, row after row, without pages.
//
// A manifest (JSON, what is not listed is refused):
//   format     "kvlab-rows"
//   version    1
//   identity   Cache::identity()
//   layout     per group of lists: layer, whether selectors act on it, lists, `first`, tile, and
//              per part the streams (units, width, codec, parameters, rotation; dtype of rows as
//              they come where it is not the run's) and columns of its pages
//   positions  [first, last)
//   lists      per list, group after group: rows in `first`, in `past`, in `recent`; slot of the
//              first row in `recent` (0 where positions are explicit); how many rows of `recent`
//              lie in the past as well or are dead
//   sequence   of whole sequences only: encoder tokens, `flagged`, `rewritten`, `removed`
//
// and tensors, those of zero bytes left out:
//   GROUP/PART/stream/NAME/PLANE   u8: list after list, unit after unit, row after row (planes by
//                                  tile: tile after tile)
//   GROUP/PART/column/NAME         its dtype: list after list, row after row
//   state/NUMBER                   u8, of whole sequences
//
// A file is a safetensors file with the manifest under "kvlab_rows" of its metadata.

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/cache/impl.h"

namespace kvlab::cache {

inline constexpr std::string_view kRowsFormat = "kvlab-rows";
inline constexpr std::string_view kRowsKey = "kvlab_rows";
inline constexpr int kRowsVersion = 1;
/// Parts whose rows travel.
inline constexpr std::array<Part, 3> kTravelling{Part::first, Part::past, Part::recent};

/// What of one list travels.
struct ListRows {
  std::array<int64_t, 3> rows{};  // in kTravelling
  int64_t recent_slot = 0;        // of the first row in `recent`
  int64_t pending = 0;            // of the rows in `recent`: in the past as well, or dead
};

/// A plane or a column: something each row (or tile) has, unit by unit.
struct Piece {
  std::string name{};  // of its tensor, behind GROUP/PART/
  Dtype dtype = Dtype::u8;
  int64_t offset = 0, unit_stride = 0;  // in the page
  int units = 1;
  int64_t bytes = 0;     // of one unit for
  int64_t per_rows = 1;  // this many rows
  int64_t bytes_of(int64_t rows) const { return rows / per_rows * bytes * units; }
};
std::vector<Piece> pieces_of(const PageLayout& page);
std::string tensor_name(int group, Part part, const Piece& piece);

/// Copies one piece of some slots (whole tiles, rising) of a list from its pages or to them; holes
/// are passed over.
void copy_out(const PageLayout& page, const ListView& list, const Piece& piece,
              std::span<const int64_t> slots, u8* to);
void copy_in(const PageLayout& page, const ListView& list, const Piece& piece,
             std::span<const int64_t> slots, const u8* from);

/// What both sides must agree on, group by group.
Json layout_of(const Layers& layers);

}  // namespace kvlab::cache
