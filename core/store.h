#pragma once
// All memory of a cache's rows: pools of pages, lists of them for each (sequence, group, list,
// part), reserved all or nothing.  It knows slots and bytes, no positions and no numbers.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/arena.h"
#include "core/page_layout.h"
#include "core/page_list.h"
#include "core/page_pool.h"

namespace kvlab {

/// Parts of a list, in the order in which attention reads them.
enum class Part : u8 { first, past, recent, chunk };
inline constexpr size_t kParts = 4;
constexpr size_t index_of(Part part) { return static_cast<size_t>(part); }

/// The pages of a group of lists: streams that share lists (of a layer, or kept for every token).
struct GroupPages {
  int layer = 0;
  int lists = 1;                          // per sequence
  bool contiguous = false;                // past without a page table
  std::array<PageLayout, kParts> part{};  // without bytes: never used
};

/// One list of one group of one sequence.
struct RowList {
  std::array<PageList, kParts> part{};
  int64_t pending = 0;                   // recent slots below it lie in the past as well
  std::array<int64_t, kParts> judged{};  // slots below it: whether they die is known and counted
  std::array<int64_t, kParts> dead{};    // dead rows that still take memory
  PageList& operator[](Part p) { return part[index_of(p)]; }
  const PageList& operator[](Part p) const { return part[index_of(p)]; }
};

/// The lists of a sequence, group after group.
using RowLists = std::vector<RowList>;

/// What a pass may need at most.
struct Demand {
  std::vector<int64_t> pages{};  // per pool
  struct Contiguous {
    PageList* list = nullptr;
    int64_t rows = 0;  // to extend by
    Range copied{};    // slots to be written
  };
  std::vector<Contiguous> contiguous{};
  int64_t bytes = 0;  // page tables and what lies outside the arena
};

/// Counted from lists.  Memory that lists share counts once.
struct StoreBytes {
  int64_t payload = 0, metadata = 0, residual = 0;
  int64_t pages = 0, tables = 0;  // bytes of the pages rows lie in, of page tables
};

class Store {
 public:
  struct Options {
    int64_t max_bytes = -1;        // E_FULL beyond
    int64_t max_tokens = 1 << 20;  // of a contiguous list
    int64_t granule = 64 << 10;
  };
  Store(std::vector<GroupPages> groups, const Options& options);

  const std::vector<GroupPages>& groups() const { return groups_; }
  size_t lists_per_sequence() const { return first_list_.back(); }
  /// Of list 0; the group's lists follow.
  size_t first_list(size_t group) const { return first_list_[group]; }

  RowLists make_lists();
  RowLists fork(RowLists& lists);

  /// Of nothing yet.
  Demand demand() const { return {.pages = std::vector<int64_t>(pools_.size(), 0)}; }
  int pool_of(size_t group, Part part) const { return pool_of_[group][index_of(part)]; }
  /// Gets all of it, beyond what is ready anyway; E_FULL or E_MEMORY and nothing changed.
  void reserve(const Demand& demand);
  /// Bytes held outside the arena on account of the cache: tables and states, as they are now.
  void settle_account(int64_t bytes);
  /// Ready memory beyond a small reserve goes back to the system.
  void trim();
  void release_deferred() { arena_.trim(); }

  StoreBytes count(std::span<const RowLists* const> sequences, int layer) const;  // -1: all layers
  ArenaBytes arena_bytes() const { return arena_.bytes(); }

 private:
  std::vector<GroupPages> groups_;
  std::vector<size_t> first_list_;
  Options options_;
  Arena arena_;
  std::vector<std::unique_ptr<PagePool>> pools_;
  std::vector<std::array<int, kParts>> pool_of_;
  int64_t account_ = 0;
};

}  // namespace kvlab
