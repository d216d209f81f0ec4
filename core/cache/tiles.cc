#include "core/cache/tiles.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>

#include "core/page_layout.h"

namespace kvlab::cache {
namespace {

/// Nothing dies and positions follow from slots: the next rows, as many as are old enough.
DueRows due_in_order(const Group& group, const ListView& recent, int64_t pending, int64_t newest) {
  const int64_t old_enough =
      group.cross ? recent.last : std::min(recent.last, newest - group.lag - group.first + 1);
  const int64_t count = std::max<int64_t>(old_enough - pending, 0) / group.tile * group.tile;
  DueRows due{.slots = std::vector<int64_t>(static_cast<size_t>(count)),
              .pending = pending + count};
  std::iota(due.slots.begin(), due.slots.end(), pending);
  return due;
}

}  // namespace

DueRows due_rows(const Group& group, const PageLayout& page, const ListView& recent,
                 int64_t pending, int64_t newest) {
  if (!group.drops) return due_in_order(group, recent, pending, newest);
  DueRows due{.pending = pending};
  ColumnCursor<int32_t> position(page, recent, page.position), until(page, recent, page.until);
  // `until` of the rows seen since the last tile that live at q, the smallest on top.
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> living;
  for (int64_t slot = pending; slot < recent.last; ++slot) {
    const int64_t q = position[slot] + group.lag;
    if (q > newest) break;
    living.push(until[slot]);
    while (!living.empty() && living.top() < q) living.pop();
    if (living.empty()) due.pending = slot + 1;  // all dead before they were due
    if (std::ssize(living) < group.tile) continue;
    for (int64_t s = due.pending; s <= slot; ++s)
      if (until[s] >= q) due.slots.push_back(s);
    due.pending = slot + 1;
    living = {};
  }
  return due;
}

}  // namespace kvlab::cache
