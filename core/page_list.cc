#include "core/page_list.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "core/error.h"

namespace kvlab {
namespace {

int64_t pages_of(int64_t slots, int64_t page_tokens) {
  return (slots + page_tokens - 1) / page_tokens;
}

}  // namespace

PageList::PageList(PagePool& pool, int page_tokens)
    : pool_(&pool), page_bytes_(pool.stride()), page_tokens_(page_tokens) {}

PageList::PageList(Arena& arena, int64_t page_bytes, int page_tokens, int64_t most_slots)
    : range_(arena.reserve(pages_of(most_slots, page_tokens) * page_bytes)),
      page_bytes_(page_bytes),
      page_tokens_(page_tokens) {}

PageList::PageList(PageList&& other) noexcept { *this = std::move(other); }

PageList& PageList::operator=(PageList&& other) noexcept {
  if (this == &other) return *this;
  release_pages();
  pool_ = std::exchange(other.pool_, nullptr);
  range_ = std::move(other.range_);
  page_bytes_ = other.page_bytes_;
  page_tokens_ = other.page_tokens_;
  first_ = std::exchange(other.first_, 0);
  last_ = std::exchange(other.last_, 0);
  ids_ = std::exchange(other.ids_, {});
  head_ = std::exchange(other.head_, 0);
  first_page_ = std::exchange(other.first_page_, 0);
  shared_ = other.shared_;
  return *this;
}

PageList::~PageList() { release_pages(); }

void PageList::release_pages() {
  for (const int32_t page : std::span(ids_).subspan(static_cast<size_t>(head_)))
    if (page >= 0) pool_->release(page);
  ids_.clear();
  head_ = 0;
}

void PageList::clear() {
  release_pages();
  first_page_ = first_ = last_ = 0;
  shared_ = false;
  if (range_) range_->decommit(0);
}

ListView PageList::view() const {
  ListView view{.first = first_, .last = last_, .settled = last_};
  view.stride = page_bytes_;
  if (is_contiguous()) {
    view.base = range_->base();
  } else if (pool_ != nullptr) {
    view.base = pool_->base();
    view.ids = ids_.data() + head_;
    view.first_page = first_page_;
  }
  return view;
}

int64_t PageList::growth(int64_t rows) const {
  if (is_contiguous() || rows <= 0) return 0;
  const int64_t tail = last_ % page_tokens_ != 0 ? copies({last_, last_}) / page_bytes_ : 0;
  return pages_of(last_ + rows, page_tokens_) - end_page() + tail;
}

int64_t PageList::prepare(int64_t rows) {
  const int64_t before = range_->committed();
  range_->commit(pages_of(last_ + rows, page_tokens_) * page_bytes_);
  return before;
}

void PageList::unprepare(int64_t committed) { range_->decommit(committed); }

/// Calls visit(offset or id) for each unit of sharing that holds slots and has other owners.
template <class Visit>
void PageList::each_shared(Range slots, Visit&& visit) const {
  if (!shared_) return;
  const int64_t first = std::max(slots.first, first_) / page_tokens_;
  if (is_contiguous()) {
    const int64_t granule = range_->granule();
    const int64_t end = pages_of(slots.last, page_tokens_) * page_bytes_;
    for (int64_t at = first * page_bytes_ / granule * granule; at < end; at += granule)
      if (range_->sharers(at) > 1) visit(at);
    return;
  }
  const int64_t last = std::min(pages_of(slots.last, page_tokens_), end_page());
  for (int64_t k = std::max(first, first_page_); k < last; ++k)
    if (id(k) >= 0 && pool_->references(id(k)) > 1) visit(k);
}

int64_t PageList::copies(Range slots) const {
  int64_t count = 0;
  each_shared(slots, [&](int64_t) { ++count; });
  return count * (is_contiguous() ? range_->granule() : page_bytes_);
}

void PageList::own(Range slots) {
  each_shared(slots, [&](int64_t unit) {
    if (is_contiguous()) return range_->make_private(unit);
    const int32_t copy = pool_->take();
    std::memcpy(pool_->page(copy), pool_->page(id(unit)), static_cast<size_t>(page_bytes_));
    pool_->release(std::exchange(id(unit), copy));
  });
}

void PageList::extend(int64_t rows) {
  if (rows <= 0) return;
  // The page that is continued; in a contiguous list, the granule.
  own({last_, last_});
  last_ += rows;
  if (is_contiguous())
    KVLAB_CHECK(pages_of(last_, page_tokens_) * page_bytes_ <= range_->committed());
  else
    while (end_page() * page_tokens_ < last_) ids_.push_back(pool_->take());
}

void PageList::truncate(int64_t last) {
  if (last >= last_) return;
  last_ = std::max(last, first_);
  const int64_t kept = pages_of(last_, page_tokens_);
  if (is_contiguous()) {
    range_->decommit(kept * page_bytes_);
    return;
  }
  while (end_page() > std::max(kept, first_page_)) {
    if (ids_.back() >= 0) pool_->release(ids_.back());
    ids_.pop_back();
  }
}

void PageList::drop_front(int64_t page) {
  for (const int64_t end = std::min(page, end_page()); first_page_ < end; ++first_page_, ++head_)
    if (const int32_t front = ids_[static_cast<size_t>(head_)]; front >= 0) pool_->release(front);
  if (head_ * 2 > std::ssize(ids_)) {  // amortised: each id moves at most once per time it leaves
    ids_.erase(ids_.begin(), ids_.begin() + head_);
    head_ = 0;
  }
}

void PageList::trim(int64_t first) {
  if (first <= first_) return;
  first_ = std::min(first, last_);
  if (is_contiguous())
    range_->discard(0, first_ / page_tokens_ * page_bytes_);
  else
    drop_front(first_ / page_tokens_);
}

Range PageList::whole_pages(Range slots) const {
  const int64_t first = std::max(pages_of(slots.first, page_tokens_), first_page_);
  const int64_t last = std::min(slots.last, last_) / page_tokens_;
  return {first * page_tokens_, std::max(first, last) * page_tokens_};
}

void PageList::punch(Range slots) {
  const Range whole = whole_pages(slots);
  for (int64_t k = whole.first / page_tokens_; k < whole.last / page_tokens_; ++k)
    if (id(k) >= 0) pool_->release(std::exchange(id(k), -1));
}

void PageList::remove_page(int64_t k) {
  KVLAB_CHECK(!is_contiguous() && k >= first_page_ && (k + 1) * page_tokens_ <= last_);
  if (id(k) >= 0) pool_->release(id(k));
  ids_.erase(ids_.begin() + head_ + (k - first_page_));
  last_ -= page_tokens_;
  if (first_ > k * page_tokens_) first_ = std::min(k * page_tokens_, last_);
}

void PageList::start_at(int64_t slot) {
  KVLAB_CHECK(size() == 0 && !is_contiguous());
  ids_.clear();
  head_ = 0;
  first_ = last_ = slot;
  first_page_ = slot / page_tokens_;
}

PageList PageList::fork(Arena& arena) {
  PageList copy;
  copy.pool_ = pool_;
  copy.page_bytes_ = page_bytes_;
  copy.page_tokens_ = page_tokens_;
  copy.first_ = first_, copy.last_ = last_;
  if (is_contiguous()) {
    copy.range_ = arena.reserve(range_->reserved());
    copy.range_->decommit(0);  // of a range that was used before
    copy.range_->alias(*range_, range_->committed());
  } else if (pool_ != nullptr) {
    copy.ids_.assign(ids_.begin() + head_, ids_.end());
    copy.first_page_ = first_page_;
    for (const int32_t page : copy.ids_)
      if (page >= 0) pool_->share(page);
  }
  copy.shared_ = shared_ = true;
  return copy;
}

int64_t PageList::identity(int64_t k) const {
  if (!shared_) return -1;
  if (!is_contiguous()) return pool_->references(id(k)) > 1 ? id(k) : -1;
  const int64_t offset = k * page_bytes_;
  if (range_->sharers(offset) <= 1) return -1;
  return range_->identity(offset) * range_->granule() + offset % range_->granule();
}

int64_t PageList::table_bytes() const {
  return (std::ssize(ids_) - head_) * static_cast<int64_t>(sizeof(int32_t));
}

int64_t PageList::pages() const {
  if (is_contiguous()) return pages_of(last_, page_tokens_) - first_ / page_tokens_;
  return std::count_if(ids_.begin() + head_, ids_.end(), [](int32_t page) { return page >= 0; });
}

int64_t PageList::committed() const {
  return is_contiguous() ? range_->committed() : pages() * page_bytes_;
}

}  // namespace kvlab
