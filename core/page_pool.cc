#include "core/page_pool.h"

#include <algorithm>
#include <functional>

#include "core/error.h"

namespace kvlab {

PagePool::PagePool(Arena& arena, int64_t stride, int64_t most)
    : stride_(stride), granule_(arena.granule()), most_(most) {
  KVLAB_CHECK(stride > 0 && most > 0 && most <= std::numeric_limits<int32_t>::max());
  range_ = arena.reserve(stride * most);
  KVLAB_CHECK(range_->committed() == 0);
}

PagePool::Ensured PagePool::ensure(int64_t pages) {
  Ensured done{.committed = range_->committed(),
               .pages = std::ssize(references_),
               .ready = std::ssize(ready_)};
  try {
    while (std::ssize(ready_) < pages && !parked_.empty()) {
      const int32_t page = parked_.back();
      for (int64_t granule = page * stride_ / granule_;
           granule * granule_ < (page + int64_t{1}) * stride_; ++granule)
        if (range_->discarded(granule * granule_, granule_) > 0) {
          range_->reclaim(granule * granule_, granule_);
          done.reclaimed.push_back(granule);
        }
      parked_.pop_back();
      ready_.push_back(page);
      done.parked.push_back(page);
    }
    const int64_t more = pages - std::ssize(ready_);
    if (more <= 0) return done;
    const int64_t known = std::ssize(references_);
    KVLAB_REQUIRE(known + more <= most_, "E_FULL", "cache: ", known + more, " pages of ", stride_,
                  " bytes exceed the ", most_,
                  " a pool holds; raise page_tokens or free sequences");
    range_->commit((known + more) * stride_);
    // The last granule may hold more pages than were asked for.
    const int64_t now = std::min(range_->committed() / stride_, most_);
    references_.resize(static_cast<size_t>(now), 0);
    for (int64_t page = now - 1; page >= known; --page)
      ready_.push_back(static_cast<int32_t>(page));
  } catch (...) {
    undo(done);
    throw;
  }
  return done;
}

void PagePool::undo(const Ensured& done) {
  ready_.resize(static_cast<size_t>(done.ready));
  references_.resize(static_cast<size_t>(done.pages));
  parked_.insert(parked_.end(), done.parked.rbegin(), done.parked.rend());
  for (const int64_t granule : done.reclaimed) range_->discard(granule * granule_, granule_);
  range_->decommit(done.committed);
}

int32_t PagePool::take() {
  KVLAB_CHECK(!ready_.empty());
  const int32_t page = ready_.back();
  ready_.pop_back();
  references_[static_cast<size_t>(page)] = 1;
  ++in_use_;
  return page;
}

void PagePool::share(int32_t page) { ++references_[static_cast<size_t>(page)]; }

void PagePool::release(int32_t page) {
  if (--references_[static_cast<size_t>(page)] > 0) return;
  ready_.push_back(page);
  --in_use_;
}

void PagePool::trim(int64_t keep) {
  if (std::ssize(ready_) <= keep) return;
  std::ranges::sort(ready_, std::greater<>());  // low pages are taken first, and kept
  std::vector<bool> is_free(references_.size(), false);
  for (size_t i = 0; i + static_cast<size_t>(keep) < ready_.size(); ++i)
    is_free[static_cast<size_t>(ready_[i])] = true;
  for (const int32_t page : parked_) is_free[static_cast<size_t>(page)] = true;
  // Bytes [first, last) of a maximal run of free pages hold whole granules to give back.
  const auto pages = std::ssize(is_free);
  for (int64_t first = 0; first < pages;) {
    int64_t last = first;
    while (last < pages && is_free[static_cast<size_t>(last)]) ++last;
    if (last > first) {
      const int64_t end = last == pages ? range_->committed() : last * stride_;
      range_->discard(first * stride_, end - first * stride_);
    }
    first = last + 1;
  }
  const auto lost = [&](int32_t page) { return range_->discarded(page * stride_, stride_) > 0; };
  const auto moved = std::stable_partition(ready_.begin(), ready_.end(), std::not_fn(lost));
  parked_.insert(parked_.end(), moved, ready_.end());
  ready_.erase(moved, ready_.end());
}

}  // namespace kvlab
