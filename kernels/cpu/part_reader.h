#pragma once
// Rows of one part: where their bytes lie, which positions they have, who may read them.

#include <cstdint>
#include <span>

#include "core/rows_view.h"
#include "kernels/codec_kernels.h"

namespace kvlab {

/// Consecutive slots of one page.
struct Run {
  const u8* page = nullptr;
  int64_t slot = 0;
  int32_t row = 0;  // of the page
  int32_t rows = 0;
  int32_t at = 0;  // column of the block it is part of
};

/// A stream of a part and the functions that read it.
class StreamReader {
 public:
  StreamReader() = default;
  StreamReader(const PageLayout& page, int stream, Isa isa);

  const StreamLayout& layout() const { return *layout_; }
  const CodecTable& table() const { return *table_; }
  const CodecKernels& kernels() const { return *kernels_; }
  bool has_kernels() const { return kernels_ != nullptr; }
  int tile_rows() const { return layout_->format.tile_tokens; }
  int64_t bytes_per_row() const { return bytes_per_row_; }  // a tile's bytes shared by its rows

  /// Rows [row, row + rows) of a page and features [first, first + features); inside one tile.
  TilePart part(const u8* page, int unit, int row, int rows, int first, int features,
                void* state) const;
  /// What to ask for ahead of reading the rows of a run (its page null: nothing).
  Ahead ahead(const Run& run, int unit) const;

 private:
  const StreamLayout* layout_ = nullptr;
  const CodecKernels* kernels_ = nullptr;
  const CodecTable* table_ = nullptr;
  int64_t bytes_per_row_ = 0;
  int largest_plane_ = 0;
};

/// Positions and intervals of a list's slots.
class ListReader {
 public:
  ListReader(const PartView& part, int list);

  Range slots() const { return {list_.first, list_.last}; }
  const u8* page_of(int64_t slot) const { return list_.page(slot >> page_log2_); }
  int row_of(int64_t slot) const { return static_cast<int>(slot & (page_tokens_ - 1)); }
  int page_tokens() const { return page_tokens_; }

  /// The first slot whose position is at least `position`; slots().last when there is none.
  int64_t first_at(int64_t position) const;
  int64_t last_position() const;                                         // -1: no rows
  int64_t position_of(int64_t slot) const { return position_at(slot); }  // not in a hole
  /// Slots that some query at [first, last] may read, holes and hidden rows among them.
  Range reachable(int64_t first_query, int64_t last_query, int64_t window_left) const;

  /// Of the rows of a run: positions, and [from, until].
  void intervals(const Run& run, int32_t* position, int32_t* from, int32_t* until) const;
  /// A float32 (or convertible) column of the rows of a run.
  void column(const Run& run, int column, float* to) const;
  /// Whether no column is needed to see that every query from `first_query` on may read the slots
  /// up to `last`, windows aside.
  bool is_plain_from(int64_t last, int64_t first_query) const;
  int64_t implicit_position(int64_t slot) const { return slot + part_.position_offset; }
  /// Bytes of positions and intervals that are read per row.
  int64_t interval_bytes() const {
    return 4 * ((part_.page->position >= 0 ? 1 : 0) + (part_.page->until >= 0 ? 1 : 0));
  }

 private:
  int64_t position_at(int64_t slot) const;  // not in a hole
  int64_t next_live(int64_t slot, int64_t end) const;
  int32_t from_of_tile(int64_t slot) const;

  const PartView& part_;
  const ListView& list_;
  int page_tokens_ = 1, page_log2_ = 0;
};

}  // namespace kvlab
