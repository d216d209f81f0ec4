#pragma once
// The value side of one segment: weighted sums of stored rows.

#include <vector>

#include "kernels/cpu/rows.h"

namespace kvlab {

class ValueAdder {
 public:
  ValueAdder(const AttendContext& context, const SegmentReader& reader, const RowFacts& facts,
             const ListRange& range, Scratch& scratch);
  /// state.sums += weights * rows of the block, contribution by contribution.
  void add(const BlockReader& blocks, const Block& block, float* weights, int64_t stride,
           const ItemState& state, WorkCounts& counts);
  double error() const;

 private:
  struct Contribution {
    const OperandReader* operand = nullptr;
    DecodedRows decoded;
    std::vector<HeadRun> runs{};
    u8* scratch = nullptr;
  };
  const float* scaled(const OperandReader& operand, const BlockReader& blocks, const Block& block,
                      const float* weights, int64_t stride);
  const float* bounds(const HeadRun& run, const Block& block, const float* weights, int64_t stride,
                      const ItemState& state);
  void add_stored(Contribution& c, const HeadRun& run, const BlockReader& blocks,
                  const Block& block, const float* weights, int64_t stride, float* sums,
                  int64_t sum_stride, const ItemState& state, WorkCounts& counts);
  void add_decoded(Contribution& c, const HeadRun& run, const BlockReader& blocks,
                   const Block& block, const float* weights, int64_t stride, float* sums,
                   int64_t sum_stride, WorkCounts& counts);

  const AttendContext& context_;
  int rows_ = 0;
  std::vector<Contribution> contributions_{};
  float *scaled_ = nullptr, *scale_ = nullptr, *bounds_ = nullptr;
};

}  // namespace kvlab
