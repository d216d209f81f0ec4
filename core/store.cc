#include "core/store.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr int64_t kPoolSpace = int64_t{1} << 40;  // address space of a pool
constexpr int64_t kMostPages = (int64_t{1} << 31) - 1;

/// Slots of a shared page that were counted already, by whoever counted them first.
class CountedOnce {
 public:
  /// Parts of `slots` (within their page) that nobody counted yet, as one range.
  Range fresh(const void* memory, int64_t identity, Range slots) {
    auto [found, is_new] = seen_.try_emplace({memory, identity}, slots);
    if (is_new) return slots;
    // Owners of a page agree on its rows but for how far they trimmed or extended it.
    Range& seen = found->second;
    Range fresh{slots.last, slots.last};
    if (slots.first < seen.first) fresh = {slots.first, seen.first};
    if (slots.last > seen.last) fresh = {std::max(seen.last, slots.first), slots.last};
    seen = {std::min(seen.first, slots.first), std::max(seen.last, slots.last)};
    return fresh;
  }

 private:
  std::map<std::pair<const void*, int64_t>, Range> seen_;
};

}  // namespace

Store::Store(std::vector<GroupPages> groups, const Options& options)
    : groups_(std::move(groups)),
      options_(options),
      arena_({.granule = options.granule, .budget = options.max_bytes}) {
  std::map<int64_t, int> by_stride;  // pages of one size share a pool, whatever they hold
  first_list_.push_back(0);
  for (const GroupPages& group : groups_) {
    first_list_.push_back(first_list_.back() + static_cast<size_t>(group.lists));
    auto& pools = pool_of_.emplace_back();
    pools.fill(-1);
    for (size_t part = 0; part < kParts; ++part) {
      const int64_t stride = group.part[part].bytes;
      if (stride == 0 || (group.contiguous && part == index_of(Part::past))) continue;
      const auto [at, is_new] = by_stride.try_emplace(stride, static_cast<int>(pools_.size()));
      if (is_new)
        pools_.push_back(std::make_unique<PagePool>(
            arena_, stride, std::clamp<int64_t>(kPoolSpace / stride, 1, kMostPages)));
      pools[part] = at->second;
    }
  }
}

RowLists Store::make_lists() {
  RowLists lists(lists_per_sequence());
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t l = first_list_[g]; l < first_list_[g + 1]; ++l)
      for (size_t part = 0; part < kParts; ++part) {
        const PageLayout& page = groups_[g].part[part];
        if (page.bytes == 0) continue;
        const int pool = pool_of_[g][part];
        lists[l].part[part] =
            pool < 0 ? PageList(arena_, page.bytes, page.page_tokens, options_.max_tokens)
                     : PageList(*pools_[static_cast<size_t>(pool)], page.page_tokens);
      }
  return lists;
}

RowLists Store::fork(RowLists& lists) {
  RowLists copy(lists.size());
  for (size_t l = 0; l < lists.size(); ++l) {
    copy[l].pending = lists[l].pending;
    copy[l].judged = lists[l].judged;
    copy[l].dead = lists[l].dead;
    for (size_t part = 0; part < kParts; ++part)
      copy[l].part[part] = lists[l].part[part].fork(arena_);
  }
  return copy;
}

void Store::reserve(const Demand& demand) {
  std::vector<std::pair<PagePool*, PagePool::Ensured>> ensured;
  std::vector<std::pair<PageList*, int64_t>> prepared;
  bool charged = false;
  try {
    for (size_t pool = 0; pool < pools_.size(); ++pool)
      if (demand.pages[pool] > pools_[pool]->ready())
        ensured.emplace_back(pools_[pool].get(), pools_[pool]->ensure(demand.pages[pool]));
    int64_t copies = 0;
    for (const auto& [list, rows, copied] : demand.contiguous) {
      copies += list->copies(copied);
      if (rows > 0) prepared.emplace_back(list, list->prepare(rows));
    }
    arena_.charge(demand.bytes);
    charged = true;
    // Copies are made at once; only the system can fail them now, and a copy changes no row.
    const int64_t available = arena_.available();
    KVLAB_REQUIRE(copies <= available, "E_FULL", "cache: ", copies,
                  " bytes shared with a fork would have to be copied, ", available,
                  " are left of max_bytes ", options_.max_bytes, "; free sequences or raise it");
    for (const auto& [list, rows, copied] : demand.contiguous) list->own(copied);
  } catch (...) {
    if (charged) arena_.charge(-demand.bytes);
    for (auto at = prepared.rbegin(); at != prepared.rend(); ++at) at->first->unprepare(at->second);
    for (auto at = ensured.rbegin(); at != ensured.rend(); ++at) at->first->undo(at->second);
    throw;
  }
  account_ += demand.bytes;
}

void Store::settle_account(int64_t bytes) {
  arena_.charge(bytes - account_);
  account_ = bytes;
}

void Store::trim() {
  for (const auto& pool : pools_) {
    const int64_t reserve =
        pool->in_use() == 0
            ? 0
            : std::max(pool->in_use() / 8, 2 * options_.granule / pool->stride() + 1);
    if (pool->ready() > 2 * reserve) pool->trim(reserve);
  }
}

StoreBytes Store::count(std::span<const RowLists* const> sequences, int layer) const {
  StoreBytes sum;
  CountedOnce once;
  for (const RowLists* lists : sequences)
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (layer >= 0 && groups_[g].layer != layer) continue;
      for (size_t l = first_list_[g]; l < first_list_[g + 1]; ++l)
        for (size_t part = 0; part < kParts; ++part) {
          const PageLayout& page = groups_[g].part[part];
          const PageList& list = (*lists)[l].part[part];
          if (page.bytes == 0) continue;
          const int pool = pool_of_[g][part];
          const void* const memory = pool < 0 ? nullptr : pools_[static_cast<size_t>(pool)].get();
          list.each_page([&](Range slots, int64_t identity) {
            if (identity >= 0) slots = once.fresh(memory, identity, slots);
            const RowBytes bytes = row_bytes(page, slots);
            sum.payload += bytes.payload;
            sum.metadata += bytes.metadata;
            if (part != index_of(Part::past)) sum.residual += bytes.payload;
          });
          sum.metadata += list.table_bytes();
          sum.tables += list.table_bytes();
          sum.pages += list.committed();
        }
    }
  return sum;
}

}  // namespace kvlab
