#pragma once
// The score side of one segment: queries in the space of the stored rows, and their dot products.

#include <vector>

#include "kernels/cpu/rows.h"

namespace kvlab {

class KeyScorer {
 public:
  KeyScorer(const AttendContext& context, const WorkItem& item, const SegmentReader& reader,
            const RowFacts& facts, const ListRange& range, Scratch& scratch);
  /// scores[r, t] = <query r, key t>, without bias and row scale.  blocks: where `block` is from.
  void score(const BlockReader& blocks, const Block& block, float* scores, int64_t stride,
             WorkCounts& counts);
  /// The step that follows: what makes logits of these scores, which rows count; no running state.
  SoftmaxBlock softmax(const BlockReader& blocks, const Block& block, float* scores,
                       int64_t stride);
  double error() const;

 private:
  void prepare(const WorkItem& item, Scratch& scratch);
  float* load_queries(const WorkItem& item, Scratch& scratch);
  float* absorb(const float* queries, int64_t stride, Scratch& scratch);
  const float* row_scale(const ListReader& list, const Block& block);
  const CodecTable& table() const;  // that meets the prepared queries
  const void* params() const;
  void score_decoded(const HeadRun& run, const BlockReader& blocks, const Block& block,
                     float* scores, int64_t stride, WorkCounts& counts);
  void score_stored(const HeadRun& run, const BlockReader& blocks, const Block& block,
                    float* scores, int64_t stride, WorkCounts& counts);

  const AttendContext& context_;
  const SegmentReader& reader_;
  const OperandReader& key_;
  const RowFacts& facts_;
  DecodedRows decoded_;
  std::vector<HeadRun> runs_{};
  bool counts_bytes_ = true;      // false: the value side reads the same rows
  float* bias_ = nullptr;         // [rows]: q times the key bias; null: none
  float* row_scale_ = nullptr;    // of rows that are not scaled yet; null: none
  int32_t* seen_from_ = nullptr;  // [rows]: where the segment has the queries stand
  u8* scratch_ = nullptr;
  int64_t tokens_ = 0;  // of the range
};

}  // namespace kvlab
