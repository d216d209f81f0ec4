#pragma once
// Positions and untils of one list in one part, as the host reads and writes them.

#include <algorithm>
#include <cstdint>

#include "core/page_layout.h"
#include "core/rows_view.h"

namespace kvlab::cache {

/// position_offset as in PartView.  until() wants the column.
class RowColumns {
 public:
  RowColumns(const PageLayout& page, const ListView& list, int64_t position_offset)
      : list_(list),
        page_(page),
        offset_(position_offset),
        position_(page.position < 0 ? 0 : page.columns[static_cast<size_t>(page.position)].offset),
        until_(page.until < 0 ? 0 : page.columns[static_cast<size_t>(page.until)].offset) {}

  bool is_hole(int64_t slot) { return seek(slot) == nullptr; }
  int32_t position(int64_t slot) {
    if (page_.position < 0) return static_cast<int32_t>(slot + offset_);
    return at(slot, position_);
  }
  /// Where positions are explicit.
  void move(int64_t slot, int64_t by) { at(slot, position_) += static_cast<int32_t>(by); }
  int32_t& until(int64_t slot) { return at(slot, until_); }
  /// until, kForever where the part has no such column.
  int32_t until_or_forever(int64_t slot) { return page_.until < 0 ? kForever : until(slot); }
  /// The first slot of [list.first, list.last) whose position is at least `position`.
  int64_t lower_bound(int64_t position);

 private:
  u8* seek(int64_t slot) {
    const int64_t k = slot / page_.page_tokens;
    if (k != k_) k_ = k, base_ = list_.page(k);
    return base_;
  }
  int32_t& at(int64_t slot, int64_t offset) {
    return reinterpret_cast<int32_t*>(seek(slot) + offset)[slot & (page_.page_tokens - 1)];
  }
  ListView list_;
  const PageLayout& page_;
  int64_t offset_, position_, until_, k_ = -1;
  u8* base_ = nullptr;
};

inline int64_t RowColumns::lower_bound(int64_t wanted) {
  if (page_.position < 0) return std::min(std::max(wanted - offset_, list_.first), list_.last);
  int64_t low = list_.first, high = list_.last;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (position(middle) < wanted)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

}  // namespace kvlab::cache
