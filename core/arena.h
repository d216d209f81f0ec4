#pragma once
// Virtual memory of a cache on the CPU: ranges reserved at once and committed by the granule, so
// that a list can grow for ever without moving, and freed memory really returns to the system.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "core/types.h"

namespace kvlab {

/// Exact counts, in bytes.
struct ArenaBytes {
  int64_t reserved = 0;   // address space, of live and of deferred ranges
  int64_t committed = 0;  // backed by memory, each granule once however often it is mapped
  int64_t deferred = 0;   // part of committed: released by its owner, kept for the next one
  int64_t charged = 0;    // held outside the arena, counted against its budget
  bool operator==(const ArenaBytes&) const = default;
};

/// A set of ranges that share one budget of memory.
///
/// A granule is mapped by commit (or reclaim), and goes back to the system by decommit or discard.
/// A range that dies is deferred with its granules: once its fence has passed it is handed out
/// again at no cost to a range that fits, or released when the budget is short or trim() is called.
/// Granules become shareable when they are first shared: they move to a memfd, once, in place.
/// Thread-safe, except that one range wants one thread at a time, and that alias and make_private
/// want no writer to the granules they touch.
class Arena {
 public:
  struct Options {
    int64_t granule = 64 << 10;  // bytes; a multiple of the system's page
    int64_t budget = -1;         // committed and charged bytes at most; -1: no limit
    bool huge_pages = true;      // advise transparent huge pages for ranges of 2 MiB and more
    /// Fault memory in when it is committed instead of when it is first written: a missing page is
    /// then E_MEMORY here, and a decode step never waits for the system.
    bool populate = false;
  };
  /// Says whether everything that may still touch released memory has finished.
  using Fence = std::function<bool()>;

  class Range;
  explicit Arena(const Options& options);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// An address range that never moves.  E_MEMORY when the system has no more address space or
  /// maps.  Prefers an idle deferred range with at least `expected` committed bytes, the smallest
  /// that fits; else the one with most.
  std::unique_ptr<Range> reserve(int64_t bytes, int64_t expected = 0);

  /// Counts memory held elsewhere (delta may be negative) against the budget; E_FULL.
  void charge(int64_t delta);
  /// Bytes that can still be committed, deferred ones whose fence has passed released if need be.
  int64_t available() const;

  ArenaBytes bytes() const;
  /// Granules mapped since the arena was made: what reuse saves.
  int64_t granules_mapped() const;
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
  int64_t granule() const;
  /// At least the first `bytes` become memory: zeroed unless a deferred range was reused.
  /// E_FULL (budget, with used, committed and reserved) or E_MEMORY; nothing changes on error.
  void commit(int64_t bytes);
  /// Granules wholly beyond `bytes` go back to the system.
  void decommit(int64_t bytes);
  /// Granules wholly inside [offset, offset + bytes) give their memory back; they read as zero.
  void discard(int64_t offset, int64_t bytes);
  /// Discarded granules that overlap [offset, offset + bytes) count as memory again: call it before
  /// writing to them.  E_FULL; nothing changes on error.
  void reclaim(int64_t offset, int64_t bytes);
  /// What reclaim would add, in bytes.
  int64_t discarded(int64_t offset, int64_t bytes) const;
  void set_fence(Fence fence);
  /// The first `bytes` (whole granules) of `other` appear at the start of this range too, the same
  /// memory: writes through one are seen in the other.  This range must be uncommitted, both of one
  /// arena.  E_MEMORY.
  void alias(Range& other, int64_t bytes);
  /// Replaces the granule at `offset` by a private copy if other ranges map it too.  E_FULL.
  void make_private(int64_t offset);
  /// How many ranges map the granule at `offset`.
  int sharers(int64_t offset) const;
  /// Equal for two granules of an arena exactly if they are the same memory; -1: never shared.
  int64_t identity(int64_t offset) const;

 private:
  friend class Arena;
  struct State;
  explicit Range(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kvlab
