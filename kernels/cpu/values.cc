#include "kernels/cpu/values.h"

#include <algorithm>

namespace kvlab {

ValueAdder::ValueAdder(const AttendContext& context, const SegmentReader& reader,
                       const RowFacts& facts, const ListRange& range, Scratch& scratch)
    : context_(context), rows_(facts.shape.rows()) {
  for (const OperandReader& operand : reader.values) {
    Contribution c{&operand, DecodedRows(context, operand, scratch),
                   head_runs(context, facts.shape, operand)};
    const CodecTable& stored = operand.stream.table();
    const CodecTable& table = operand.decodes() ? *context.float32 : stored;
    const void* params = operand.stream.kernels().params;
    int most_rows = 0;
    for (HeadRun& run : c.runs) {
      run.state = scratch.take<u8>(stored.state_bytes());
      stored.begin(params,
                   {.query = nullptr,
                    .rows = run.rows,
                    .stride = 0,
                    .scale = 1.0f,
                    .tokens = range.last - range.first},
                   run.state);
      most_rows = std::max(most_rows, run.rows);
    }
    const void* used = operand.decodes() ? float_rows(nullptr, 0, 0, 0).params : params;
    c.scratch = scratch.take<u8>(table.scratch_bytes(used, operand.width(), most_rows, kMaxBlock));
    if (operand.folds_scale() && scale_ == nullptr) {
      scale_ = scratch.take<float>(kMaxBlock);
      scaled_ = scratch.take<float>(rows_ * (kMaxBlock + 16));
    }
    if (stored.weighs && bounds_ == nullptr) bounds_ = scratch.take<float>(kMaxBlock);
    contributions_.push_back(std::move(c));
  }
}

void ValueAdder::add(const BlockReader& blocks, const Block& block, float* weights, int64_t stride,
                     const ItemState& state, WorkCounts& counts) {
  for (size_t i = 0; i < contributions_.size(); ++i) {
    Contribution& c = contributions_[i];
    c.decoded.next_block();
    const float* w = scaled(*c.operand, blocks, block, weights, stride);
    for (const HeadRun& run : c.runs) {
      float* sums = state.sums[i] + run.first_row * state.strides[i];
      if (c.operand->decodes())
        add_decoded(c, run, blocks, block, w, stride, sums, state.strides[i], counts);
      else
        add_stored(c, run, blocks, block, w, stride, sums, state.strides[i], state, counts);
      counts.multiply_adds += int64_t{run.rows} * block.tokens * c.operand->width();
    }
  }
}

/// Weights times the rows' scale.
const float* ValueAdder::scaled(const OperandReader& operand, const BlockReader& blocks,
                                const Block& block, const float* weights, int64_t stride) {
  if (!operand.folds_scale()) return weights;
  for (const Run& run : block.runs)
    blocks.list().column(run, operand.scale_column, scale_ + run.at);
  const int64_t columns = padded(block.tokens);
  for (int r = 0; r < rows_; ++r)
    for (int64_t t = 0; t < columns; ++t)
      scaled_[r * stride + t] = t < block.tokens ? weights[r * stride + t] * scale_[t] : 0.0f;
  return scaled_;
}

/// Of each row: at least its final probability in every query row of the run, as the denominators
/// so far include it.
const float* ValueAdder::bounds(const HeadRun& run, const Block& block, const float* weights,
                                int64_t stride, const ItemState& state) {
  std::fill_n(bounds_, block.tokens, 0.0f);
  for (int r = run.first_row; r < run.first_row + run.rows; ++r) {
    if (!(state.sum[r] > 0)) continue;
    const float share = 1.0f / state.sum[r];
    for (int t = 0; t < block.tokens; ++t)
      bounds_[t] = std::max(bounds_[t], weights[r * stride + t] * share);
  }
  return bounds_;
}

void ValueAdder::add_stored(Contribution& c, const HeadRun& run, const BlockReader& blocks,
                            const Block& block, const float* weights, int64_t stride, float* sums,
                            int64_t sum_stride, const ItemState& state, WorkCounts& counts) {
  const CodecTable& table = c.operand->stream.table();
  const float* most = table.weighs ? bounds(run, block, weights, stride, state) : nullptr;
  for (const Run& rows : block.runs) {
    counts.bytes_read += table.value(
        {.part = c.operand->stream.part(rows.page, run.unit, rows.row, rows.rows, run.first_feature,
                                        c.operand->width(), run.state),
         .weights = weights + run.first_row * stride + rows.at,
         .weight_stride = stride,
         .bounds = most == nullptr ? nullptr : most + rows.at,
         .rows = run.rows,
         .sums = sums,
         .sum_stride = sum_stride,
         .ahead = c.operand->stream.ahead(blocks.ahead(rows.at), run.unit),
         .scratch = c.scratch});
  }
}

void ValueAdder::add_decoded(Contribution& c, const HeadRun& run, const BlockReader& blocks,
                             const Block& block, const float* weights, int64_t stride, float* sums,
                             int64_t sum_stride, WorkCounts& counts) {
  const OperandReader& operand = *c.operand;
  const int kv_heads = operand.built ? 1 : run.kv_heads, rows = run.rows / run.kv_heads;
  for (int i = 0; i < run.kv_heads; i += kv_heads) {
    const DecodedRows::View values =
        c.decoded.get(blocks, block, run, run.first_kv_head + i, counts);
    const int first = i * rows;
    context_.float32->value(
        {.part = float_rows(values.data, values.stride, block.tokens, operand.width()),
         .weights = weights + (run.first_row + first) * stride,
         .weight_stride = stride,
         .bounds = nullptr,
         .rows = rows * kv_heads,
         .sums = sums + first * sum_stride,
         .sum_stride = sum_stride,
         .ahead = {},
         .scratch = c.scratch});
  }
  counts.bytes_read += block.tokens * operand.stream.bytes_per_row() * operand.read_features() /
                       operand.stream.layout().width;
}

double ValueAdder::error() const {
  double error = 0;
  for (const Contribution& c : contributions_)
    for (const HeadRun& run : c.runs)
      error = std::max<double>(
          error, c.operand->stream.table().error(c.operand->stream.kernels().params, run.state));
  return error;
}

}  // namespace kvlab
