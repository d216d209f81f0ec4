#pragma once
// The pages of one list in one part: slots in, addresses out.  Either ids of a pool's pages, or one
// range of the arena (contiguous).  Knows nothing of what a row means.

#include <cstdint>
#include <memory>
#include <vector>

#include "core/arena.h"
#include "core/page_pool.h"
#include "core/rows_view.h"
#include "core/types.h"

namespace kvlab {

/// Slots [first, last).  Memory for more is got beforehand (growth, then PagePool::ensure or
/// prepare); extend itself cannot fail.  Pages may be shared with other lists: own() before writing
/// below last, extend does it for the page it continues.
class PageList {
 public:
  PageList() = default;  // of a part that is never used
  PageList(PagePool& pool, int page_tokens);
  PageList(Arena& arena, int64_t page_bytes, int page_tokens, int64_t most_slots);
  PageList(PageList&&) noexcept;
  PageList& operator=(PageList&&) noexcept;
  ~PageList();

  bool is_contiguous() const { return range_ != nullptr; }
  Range slots() const { return {first_, last_}; }
  int64_t size() const { return last_ - first_; }
  int page_tokens() const { return page_tokens_; }
  /// settled at its end, no grace.
  ListView view() const;
  PagePool* pool() const { return pool_; }

  /// Pool pages that extend(rows) takes, a copy of a shared last page included.
  int64_t growth(int64_t rows) const;
  /// Contiguous lists: commits what extend(rows) needs; returns the bytes committed before.
  int64_t prepare(int64_t rows);
  void unprepare(int64_t committed);
  /// Bytes of memory that own(slots) copies; of a contiguous list also what extend to slots.last
  /// copies.
  int64_t copies(Range slots) const;

  void extend(int64_t rows);
  /// Slots from `last` on leave.
  void truncate(int64_t last);
  /// Slots below `first` leave.
  void trim(int64_t first);
  /// The slots of pages that lie wholly inside.
  Range whole_pages(Range slots) const;
  /// Those pages leave; their slots are holes.  Pool lists only.
  void punch(Range slots);
  /// Page k leaves and later pages move down by one: their slots fall by page_tokens.  Pool lists
  /// only; k is not the last page.
  void remove_page(int64_t k);
  /// An empty list starts at `slot`.
  void start_at(int64_t slot);
  /// Copies pages that hold some of these slots and are shared.
  void own(Range slots);
  /// A list of the same rows that shares all memory.
  PageList fork(Arena& arena);
  void clear();

  // For accounts.
  int64_t table_bytes() const;
  /// Pages of [first, last): calls visit(slots of the page in the list, identity).  identity: equal
  /// for pages that are the same memory, -1 when nobody else has it.
  template <class Visit>
  void each_page(Visit&& visit) const {
    if (first_ == last_) return;  // it may begin inside a page it does not have yet
    for (int64_t k = first_ / page_tokens_; k * page_tokens_ < last_; ++k) {
      if (!is_contiguous() && id(k) < 0) continue;
      visit(Range{std::max(first_, k * page_tokens_), std::min(last_, (k + 1) * page_tokens_)},
            identity(k));
    }
  }
  int64_t pages() const;      // that hold memory
  int64_t committed() const;  // bytes they take

 private:
  int32_t& id(int64_t k) { return ids_[static_cast<size_t>(head_ + k - first_page_)]; }
  int32_t id(int64_t k) const { return ids_[static_cast<size_t>(head_ + k - first_page_)]; }
  int64_t end_page() const { return first_page_ + std::ssize(ids_) - head_; }
  int64_t identity(int64_t k) const;
  template <class Visit>
  void each_shared(Range slots, Visit&& visit) const;
  void release_pages();
  void drop_front(int64_t page);

  PagePool* pool_ = nullptr;
  std::unique_ptr<Arena::Range> range_;
  int64_t page_bytes_ = 0;
  int page_tokens_ = 1;
  int64_t first_ = 0, last_ = 0;
  std::vector<int32_t> ids_;  // of pages [first_page_, ...), after `head_` that have left
  int64_t head_ = 0, first_page_ = 0;
  bool shared_ = false;  // some pages may have other owners
};

}  // namespace kvlab
