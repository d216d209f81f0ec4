#pragma once
// Pages of one size, shared by reference count, over one range of an arena.

#include <cstdint>
#include <memory>
#include <vector>

#include "core/arena.h"
#include "core/types.h"

namespace kvlab {

/// Pages are made ready all at once (ensure: may fail) and taken one by one (cannot fail), so that
/// a pass that has begun never runs out of memory.
class PagePool {
 public:
  /// `stride` bytes from page to page, at most `most` pages ever.
  PagePool(Arena& arena, int64_t stride, int64_t most);

  int64_t stride() const { return stride_; }
  u8* base() const { return range_->base(); }

  /// What ensure did, so that it can be taken back as long as none of its pages was taken.
  struct Ensured {
    int64_t committed = 0, pages = 0, ready = 0;
    std::vector<int64_t> reclaimed{};  // granules
    std::vector<int32_t> parked{};     // pages
  };
  /// At least `pages` can be taken.  E_FULL, E_MEMORY; nothing changes on error.
  Ensured ensure(int64_t pages);
  void undo(const Ensured& ensured);

  int32_t take();              // 1 reference
  void share(int32_t page);    // one more
  void release(int32_t page);  // one less; 0: free
  int references(int32_t page) const { return references_[static_cast<size_t>(page)]; }
  u8* page(int32_t page) const { return base() + page * stride_; }

  int64_t ready() const { return std::ssize(ready_); }
  int64_t in_use() const { return in_use_; }
  /// Granules no page in use touches go back to the system, but for `keep` ready pages.
  void trim(int64_t keep);

 private:
  std::unique_ptr<Arena::Range> range_;
  int64_t stride_, granule_, most_;
  int64_t in_use_ = 0;
  std::vector<int32_t> references_;  // of every page of the committed prefix
  std::vector<int32_t> ready_;       // free, memory behind them; taken from the back
  std::vector<int32_t> parked_;      // free, memory given back
};

}  // namespace kvlab
