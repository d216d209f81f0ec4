#pragma once
// What one thread does with one piece: prepare queries, then block by block score, softmax, weigh.

#include <cstdint>
#include <span>
#include <vector>

#include "core/engine.h"
#include "kernels/attention_steps.h"
#include "kernels/cpu/items.h"
#include "kernels/cpu/scratch.h"

namespace kvlab {

/// Counted where it happens.
struct WorkCounts {
  int64_t bytes_read = 0, multiply_adds = 0;
  double certified_error = 0;
  WorkCounts& operator+=(const WorkCounts& more);
};

/// What the pieces of one call share.
struct AttendContext {
  const AttendCall* call = nullptr;
  const WorkItems* work = nullptr;
  const AttentionSteps* steps = nullptr;
  const CodecTable* float32 = nullptr;  // rows that were decoded are read by it
  RopeTable::View rope{};
  int heads_per_kv_head() const { return call->shape->num_heads / call->shape->num_kv_heads; }
};

/// The state of an item's packed query rows: row r = (kv head * query tokens + token) * G + g.
/// sums[c] is [rows, stride of contribution c], unnormalised.
struct ItemState {
  float *max = nullptr, *sum = nullptr;
  std::vector<float*> sums{};
  std::vector<int64_t> strides{};
  int32_t rows = 0;

  static int64_t floats(const SumGroup& group, int64_t rows);
  /// Lays a state out in `floats(...)` floats.
  static ItemState at(float* memory, const SumGroup& group, int32_t rows);
  void clear();
};

/// Heads, packed rows and query tokens of an item.
struct ItemShape {
  int32_t first_kv_head = 0, kv_heads = 0, tokens = 0, group = 1;
  int32_t rows() const { return kv_heads * tokens * group; }
  int32_t first_row(int kv_head) const { return (kv_head - first_kv_head) * tokens * group; }
};
ItemShape shape_of(const AttendContext& context, const WorkItem& item);

/// About what a call comes to: every item's queries with all rows of the tiles it touches.
int64_t multiply_adds(const AttendContext& context);

/// Attends over tiles [first_tile, last_tile) of an item, from an empty state.
void attend_piece(const AttendContext& context, const WorkItem& item, int first_tile, int last_tile,
                  Scratch& scratch, const ItemState& state, WorkCounts& counts);

}  // namespace kvlab
