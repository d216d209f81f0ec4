#pragma once
// Stored rows on their way to the query: decoded, rotated back, mapped, rotated by RoPE.

#include <cstdint>

#include "kernels/cpu/block.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/worker.h"

namespace kvlab {

/// What every query row of an item is.
struct RowFacts {
  ItemShape shape{};
  int32_t* position = nullptr;                  // [rows]
  const float* slope = nullptr;                 // [rows]; null: no ALiBi
  const float* const* distance_bias = nullptr;  // [rows]; null: none
  QuerySpan span{};
  RowFacts(const AttendContext& context, const WorkItem& item, Scratch& scratch);
  /// Logits depend on where rows lie.
  bool reads_positions() const { return slope != nullptr || distance_bias != nullptr; }
};

/// Rows of one call of a codec: at most a tile of every codec of the segment.
int run_rows(const SegmentReader& reader);

/// Consecutive kv heads that meet the same features of the same unit's rows.
struct HeadRun {
  int first_kv_head = 0, kv_heads = 0, unit = 0, first_feature = 0;
  int first_row = 0, rows = 0;  // packed query rows
  u8* prepared = nullptr;       // keys only
  void* state = nullptr;        // of the codec
};
std::vector<HeadRun> head_runs(const AttendContext& context, const ItemShape& shape,
                               const OperandReader& operand);

/// Decoded rows of one operand and block, in float32.
class DecodedRows {
 public:
  DecodedRows(const AttendContext& context, const OperandReader& operand, Scratch& scratch);
  struct View {
    const float* data = nullptr;
    int64_t stride = 0;
  };
  /// Features of a kv head for the rows of a block that `blocks` gave.  Valid until the next call.
  View get(const BlockReader& blocks, const Block& block, const HeadRun& run, int kv_head,
           WorkCounts& counts);
  /// Forgets what it decoded: the block has changed.
  void next_block() { decoded_unit_ = -1; }

 private:
  void decode(const BlockReader& blocks, const Block& block, const HeadRun& run);
  void scale_rows(const BlockReader& blocks, const Block& block, int features);
  void build(const View& rows, int tokens, int kv_head, WorkCounts& counts);
  void map_rows(const View& rows, int tokens, int kv_head, WorkCounts& counts);
  void copy_rows(const View& rows, int tokens);

  const AttendContext& context_;
  const OperandReader& operand_;
  int64_t decoded_stride_ = 0, built_stride_ = 0;
  float *decoded_ = nullptr, *built_ = nullptr, *scale_ = nullptr;
  u8 *queries_ = nullptr, *no_scratch_ = nullptr;
  int decoded_unit_ = -1, decoded_feature_ = -1;
};

}  // namespace kvlab
