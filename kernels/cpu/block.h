#pragma once
// Blocks of rows: what is scored, softmaxed and weighed at once.

#include <cstdint>
#include <vector>

#include "kernels/cpu/items.h"
#include "kernels/cpu/part_reader.h"

namespace kvlab {

inline constexpr int kMaxBlock = 256;  // rows: fewer pay more often for what a block costs

struct Block {
  std::vector<Run> runs{};
  int32_t tokens = 0;
  bool is_masked = false;      // some row is hidden from some query
  bool has_intervals = false;  // below; always when masked
  // Of each row; readable to a multiple of 16.
  int32_t position[kMaxBlock + 16]{}, from[kMaxBlock + 16]{}, until[kMaxBlock + 16]{};
};

/// The queries a block is looked at by.
struct QuerySpan {
  int32_t first = 0, last = 0;  // positions
  int64_t window_left = -1;
};

/// Cuts a part of a range into blocks.
class BlockReader {
 public:
  /// Places [first, last) of `range`; blocks of at most kMaxBlock rows, at first + k * kMaxBlock.
  BlockReader(const Segment& segment, const ListRange& range, int64_t first, int64_t last,
              int run_rows, const QuerySpan& queries);
  /// The next block that some query can read a row of; false at the end.
  bool next(Block& block);
  /// Fills in positions and intervals.
  void read_intervals(Block& block) const;
  /// Page and row of place `at` of the next block; page null when unknown.
  Run ahead(int at) const;
  const ListReader& list() const { return list_; }

 private:
  void fill(Block& block, int64_t begin, int64_t end) const;
  void add_slots(Block& block, int64_t begin, int64_t end) const;
  bool look(Block& block) const;  // false: hidden from all
  bool is_plain(const Block& block) const;
  bool look_at_intervals(Block& block) const;

  const Segment& segment_;
  const ListRange& range_;
  ListReader list_;
  int64_t at_, last_;
  int run_rows_;
  QuerySpan queries_;
};

}  // namespace kvlab
