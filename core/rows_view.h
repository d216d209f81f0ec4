#pragma once
// Where rows lie: the one address formula that store and engines share.
//
// A page holds page_tokens consecutive slots of one list: for each stream its planes, unit after
// unit, then the columns.  So one unit's tile of rows is contiguous, whatever the number of units:
//
//   row (unit, slot), plane p:  page(slot / P) + plane.offset + unit * plane.unit_stride
//                               + (slot % P) * row_bytes            (planes by row)
//                               + (slot % P) / tile_tokens * tile_bytes  (planes by tile)
//   column c of slot:           page(slot / P) + column.offset + (slot % P) * size of its dtype
//
// `unit` counts inside the list: a list of granularity `head` has units / lists of them.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/codec.h"
#include "core/stage.h"
#include "core/types.h"

namespace kvlab {

/// One stream of a page, coded one way.
struct StreamLayout {
  struct Plane {
    int64_t offset = 0, unit_stride = 0;
  };
  std::string name{};
  int units = 1, width = 0;  // units of one list
  const Codec* codec = nullptr;
  Json params{};  // of the codec, completed
  bool rotate_hadamard = false;
  Encoded format{};
  std::vector<Plane> planes{};
};

struct ColumnLayout {
  std::string name{};
  Dtype dtype = Dtype::f32;
  int64_t offset = 0;
};

/// The bytes of one page; lists whose pages are alike share a pool.
struct PageLayout {
  int page_tokens = 64;  // power of two, a multiple of every stream's tile_tokens
  int64_t bytes = 0;
  int tile_tokens = 1;  // rows move in tiles of the largest
  std::vector<StreamLayout> streams{};
  std::vector<ColumnLayout> columns{};
  int position = -1, until = -1;            // index of these int32 columns; -1: absent
  int stream(std::string_view name) const;  // index or -1
  int column(std::string_view name) const;
};

/// The pages of one list, in one part, and what a call may read of them.
struct ListView {
  u8* base = nullptr;
  int64_t stride = 0;            // bytes from page id to page id
  const int32_t* ids = nullptr;  // page k is ids[k - first_page] (-1: a hole, all its rows are
  int64_t first_page = 0;        // dead); absent: page k is k itself
  int64_t first = 0, last = 0;   // slots [first, last)
  int64_t settled = 0;           // slots below it have no `from` of their own, see PartView
  int32_t grace = kForever;      // an `until` at or above it reads as kForever, see PartView

  u8* page(int64_t k) const {
    const int64_t id = ids == nullptr ? k : ids[k - first_page];
    return id < 0 ? nullptr : base + id * stride;
  }
};

/// One part (first, past, recent or chunk) of all lists of a layer in one call.  list index =
/// sequence of the call * lists_per_sequence + list of the layer.
///
/// Row `slot` has position columns[position] or, when absent, slot + position_offset; positions
/// rise with slots.  It is readable by queries at positions [from, until]:
///   from   its own position below `settled` (encoded in an earlier pass: plain causality), else
///          position of the last slot of its tile (from_tile slots, aligned to multiples of it)
///          + from_lag; kNoFrom as from_lag: every query (cross-attention), wherever `settled` is
///   until  columns[until], kForever when absent or not below the list's `grace` (a pass at whose
///          end flags take effect reads what expires inside it to its end)
/// A hole has no positions: a search among them skips it.
struct PartView {
  static constexpr int32_t kNoFrom = std::numeric_limits<int32_t>::min();
  const PageLayout* page = nullptr;
  std::vector<ListView> lists{};
  int lists_per_sequence = 1;
  int64_t position_offset = 0;
  int32_t from_lag = 0;
  int from_tile = 1;
};

}  // namespace kvlab
