#pragma once
// From streams, columns and codec formats to the bytes of a page, and from slots to bytes.

#include <cstdint>
#include <vector>

#include "core/rows_view.h"
#include "core/types.h"

namespace kvlab {

/// Names of the columns every engine knows.
inline constexpr std::string_view kPositionColumn = "position", kUntilColumn = "until";

/// Fills in offsets, strides and sizes: stream after stream, plane after plane, then the columns.
/// Planes and pages start at multiples of 64 bytes, units at multiples of 16; page_tokens is raised
/// to the largest tile.  E_CONFIG when page_tokens or a tile is no power of two.
PageLayout make_page_layout(std::vector<StreamLayout> streams, const std::vector<Column>& columns,
                            int page_tokens);

/// What rows take, apart from padding and pages' tails.
struct RowBytes {
  int64_t payload = 0, metadata = 0;
  RowBytes& operator+=(const RowBytes& more) {
    payload += more.payload;
    metadata += more.metadata;
    return *this;
  }
};

/// Of slots [first, last): planes by row and columns for each of them, planes by tile for each tile
/// one of them is in.
RowBytes row_bytes(const PageLayout& page, Range slots);

/// Whether a row can be moved or rewritten without its neighbours, in every stream.
bool is_row_wise(const PageLayout& page);

/// Column `column` of a slot; nullptr in a hole.
u8* column_at(const PageLayout& page, const ListView& list, int column, int64_t slot);

/// A column of a list read and written from slot to slot, one page lookup per page.
template <class T>
class ColumnCursor {
 public:
  ColumnCursor(const PageLayout& page, const ListView& list, int column)
      : list_(list),
        offset_(page.columns[static_cast<size_t>(column)].offset),
        tokens_(page.page_tokens) {}
  bool is_hole(int64_t slot) { return seek(slot) == nullptr; }
  T& operator[](int64_t slot) {
    return reinterpret_cast<T*>(seek(slot) + offset_)[slot & (tokens_ - 1)];
  }

 private:
  u8* seek(int64_t slot) {
    const int64_t page = slot / tokens_;
    if (page != page_) page_ = page, base_ = list_.page(page);
    return base_;
  }
  ListView list_;
  int64_t offset_, tokens_, page_ = -1;
  u8* base_ = nullptr;
};

}  // namespace kvlab
