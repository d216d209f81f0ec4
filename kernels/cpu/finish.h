#pragma once
// From the states of an item's pieces to output rows: merge, map, merge groups, sinks.

#include <span>
#include <vector>

#include "kernels/cpu/worker.h"

namespace kvlab {

/// Where results go.  Calls that take several passes collect them, normalised, in float32.
struct Results {
  bool is_first = true, is_last = true;
  float* out = nullptr;  // [rows, H, stride]; null when there is one pass
  float* lse = nullptr;  // [rows, H]
  int64_t out_stride = 0;
};

/// One group's states for the rows of a kv head, in ascending order of tokens.
struct HeadStates {
  const SumGroup* group = nullptr;
  std::vector<ItemState> pieces{};
  int32_t first_row = 0;  // of the kv head in each of them
};

/// Finishes the query tokens of `tile` for the query heads of one kv head.
void finish_head(const AttendContext& context, const QueryTile& tile, int kv_head,
                 std::span<const HeadStates> groups, const Results& results, Scratch& scratch,
                 WorkCounts& counts);

}  // namespace kvlab
