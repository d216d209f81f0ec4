#pragma once
// Virtual memory of a cache on the CPU: ranges reserved at once and committed by the granule, so
// that a list can grow for ever without moving, and freed memory really returns to the system.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/types.h"

namespace kvlab {

/// Exact counts, in bytes.
struct ArenaBytes {
  int64_t reserved = 0;   // address space
  int64_t committed = 0;  // backed by memory, each granule once however often it is mapped
  int64_t deferred = 0;   // part of committed: released by its owner, kept for the next one
  bool operator==(const ArenaBytes&) const = default;
};

/// A set of ranges that share one budget of memory.
///
/// Granule states: pooled -> mapped -> (range shrinks or is freed) deferred -> mapped again at no
/// cost for a range that is made from the deferred one, or, when the budget is short or trim() is
/// called and its fence has passed, released.  Thread-safe.
class Arena {
 public:
  struct Options {
    int64_t granule = 64 << 10;  // bytes; a multiple of the system's page
    int64_t budget = -1;         // committed bytes at most; -1: no limit
    bool shareable = false;      // granules may be mapped in several ranges (memfd behind them)
    bool huge_pages = true;      // advise transparent huge pages for ranges of 2 MiB and more
  };
  /// Says whether everything that may still touch released memory has finished.
  using Fence = std::function<bool()>;

  class Range;
  explicit Arena(const Options& options);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// An address range that never moves.  E_MEMORY when the system has no more address space or
  /// maps. Prefers an idle deferred range with at least `expected` committed bytes, the smallest
  /// that fits.
  std::unique_ptr<Range> reserve(int64_t bytes, int64_t expected = 0);

  ArenaBytes bytes() const;
  /// Gives deferred granules whose fence has passed back to the system.
  void trim();

  int64_t granule() const;

 private:
  friend class Range;
  struct State;
  std::shared_ptr<State> state_;
};

/// [base, base + reserved): the first committed() bytes are memory, the rest faults.
class Arena::Range {
 public:
  ~Range();  // its granules are deferred behind `fence`, if one was set
  u8* base() const;
  int64_t reserved() const;
  int64_t committed() const;
  /// At least the first `bytes` become memory: zeroed unless a deferred range was reused.
  /// E_FULL (budget, with used, committed and reserved) or E_MEMORY; nothing changes on error.
  void commit(int64_t bytes);
  /// Granules wholly beyond `bytes` go back to the system.
  void decommit(int64_t bytes);
  /// Granules wholly inside [offset, offset + bytes) lose their memory but stay usable: they read
  /// as zero and cost nothing until written again.
  void discard(int64_t offset, int64_t bytes);
  void set_fence(Fence fence);
  /// The first `bytes` (whole granules) of `other` appear at the start of this range too, the same
  /// memory: writes through one are seen in the other.  This range must be uncommitted; the arena
  /// shareable.
  void alias(const Range& other, int64_t bytes);
  /// Replaces the granule at `offset` by a private copy if other ranges map it too.
  void make_private(int64_t offset);
  /// How many ranges map the granule at `offset`.
  int sharers(int64_t offset) const;

 private:
  friend class Arena;
  struct State;
  explicit Range(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kvlab
