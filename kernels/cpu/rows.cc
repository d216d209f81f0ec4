#include "kernels/cpu/rows.h"

#include <algorithm>
#include <cstring>

namespace kvlab {

int run_rows(const SegmentReader& reader) {
  int rows = kMaxBlock;
  const auto use = [&](const OperandReader& operand) {
    if (operand.stream.tile_rows() > 1) rows = std::min(rows, operand.stream.tile_rows());
  };
  use(reader.key);
  for (const OperandReader& value : reader.values) use(value);
  return rows;
}

std::vector<HeadRun> head_runs(const AttendContext& context, const ItemShape& shape,
                               const OperandReader& operand) {
  const Layer& layer = *context.call->shape;
  const int lists = operand.units / operand.stream.layout().units;
  std::vector<HeadRun> runs;
  for (int kv = shape.first_kv_head; kv < shape.first_kv_head + shape.kv_heads; ++kv) {
    const int unit = operand.unit_of(kv, layer.num_kv_heads) % (operand.units / lists);
    const int feature = operand.first_feature(kv);
    if (runs.empty() || runs.back().unit != unit || runs.back().first_feature != feature)
      runs.push_back({.first_kv_head = kv,
                      .unit = unit,
                      .first_feature = feature,
                      .first_row = shape.first_row(kv)});
    ++runs.back().kv_heads;
    runs.back().rows += shape.tokens * shape.group;
  }
  return runs;
}

DecodedRows::DecodedRows(const AttendContext& context, const OperandReader& operand,
                         Scratch& scratch)
    : context_(context), operand_(operand) {
  if (!operand.decodes()) return;
  const int width = operand.stream.layout().width;
  decoded_stride_ = padded(operand.is_slice() && !operand.unrotate ? operand.dim : width);
  built_stride_ = padded(operand.dim);
  decoded_ = scratch.take<float>(kMaxBlock * decoded_stride_);
  if (operand.built || operand.is_rotated) built_ = scratch.take<float>(kMaxBlock * built_stride_);
  if (operand.built && operand.scale_column >= 0) scale_ = scratch.take<float>(kMaxBlock);
  if (operand.built && operand.operand->up) {
    const CodecTable& table = *context.float32;
    const int taken = operand.map_width();
    const TilePart any = float_rows(nullptr, 0, kMaxBlock, taken);
    queries_ = scratch.take<u8>(table.query_bytes(any.params, taken, kMaxBlock));
    no_scratch_ = scratch.take<u8>(table.scratch_bytes(any.params, taken, kMaxBlock, operand.dim));
  }
}

DecodedRows::View DecodedRows::get(const BlockReader& blocks, const Block& block,
                                   const HeadRun& run, int kv_head, WorkCounts& counts) {
  const bool is_decoded =
      decoded_unit_ == run.unit && (decoded_feature_ == run.first_feature || operand_.unrotate);
  if (!is_decoded) decode(blocks, block, run);
  View view{decoded_, decoded_stride_};
  if (operand_.is_slice() && operand_.unrotate) view.data += run.first_feature;
  if (!operand_.built && !operand_.is_rotated) return view;
  const bool for_one_head = operand_.is_slice() && !operand_.unrotate && run.kv_heads == 1;
  float* made = built_;
  int64_t stride = built_stride_;
  if (operand_.built) {
    build(view, block.tokens, kv_head, counts);
  } else if (for_one_head) {
    made = decoded_, stride = decoded_stride_;
    decoded_unit_ = -1;  // turned where they lie, they are no longer as they were
  } else {
    copy_rows(view, block.tokens);  // other heads may want the same rows as they are
  }
  if (operand_.is_rotated) {
    const Rope& rope = context_.call->shape->rope;
    context_.steps->rotate({.data = made,
                            .stride = stride,
                            .rows = block.tokens,
                            .pairs = rope.rotary_dim / 2,
                            .interleaved = rope.style == Rope::Style::interleaved,
                            .positions = block.position,
                            .fine = context_.rope.fine,
                            .coarse = context_.rope.coarse});
  }
  return {made, stride};
}

void DecodedRows::decode(const BlockReader& blocks, const Block& block, const HeadRun& run) {
  const StreamReader& stream = operand_.stream;
  const int width = stream.layout().width;
  const bool slice = operand_.is_slice() && !operand_.unrotate;
  for (const Run& rows : block.runs)
    stream.table().decode({.part = stream.part(rows.page, run.unit, rows.row, rows.rows,
                                               slice ? run.first_feature : 0,
                                               slice ? operand_.dim : width, run.state),
                           .to = decoded_ + rows.at * decoded_stride_,
                           .stride = decoded_stride_});
  if (operand_.unrotate)
    context_.steps->hadamard(decoded_, decoded_stride_, block.tokens, width, true);
  if (scale_ != nullptr) scale_rows(blocks, block, slice ? operand_.dim : width);
  decoded_unit_ = run.unit;
  decoded_feature_ = run.first_feature;
}

/// A row's scale comes before its map: a bias is not scaled.
void DecodedRows::scale_rows(const BlockReader& blocks, const Block& block, int features) {
  for (const Run& rows : block.runs)
    blocks.list().column(rows, operand_.scale_column, scale_ + rows.at);
  for (int t = 0; t < block.tokens; ++t)
    for (int c = 0; c < features; ++c) decoded_[t * decoded_stride_ + c] *= scale_[t];
}

void DecodedRows::build(const View& rows, int tokens, int kv_head, WorkCounts& counts) {
  if (operand_.operand->up)
    map_rows(rows, tokens, kv_head, counts);
  else
    copy_rows(rows, tokens);
  if (!operand_.operand->bias) return;
  const int dim = operand_.dim;
  const float* bias = operand_.operand->bias.as<const float>() + int64_t{kv_head} * dim;
  for (int t = 0; t < tokens; ++t)
    for (int c = 0; c < dim; ++c) built_[t * built_stride_ + c] += bias[c];
}

void DecodedRows::map_rows(const View& rows, int tokens, int kv_head, WorkCounts& counts) {
  const int width = operand_.map_width(), dim = operand_.dim;
  const float* up = operand_.operand->up.as<const float>() + int64_t{kv_head} * dim * width;
  const CodecTable& table = *context_.float32;
  const TilePart map = float_rows(up, width, dim, width);
  table.prepare({.params = map.params,
                 .queries = rows.data,
                 .stride = rows.stride,
                 .rows = tokens,
                 .first_feature = 0,
                 .features = width,
                 .to = queries_});
  table.score({.part = map,
               .prepared = queries_,
               .rows = tokens,
               .out = built_,
               .out_stride = built_stride_,
               .ahead = {},
               .scratch = no_scratch_});
  counts.multiply_adds += int64_t{tokens} * dim * width;
}

void DecodedRows::copy_rows(const View& rows, int tokens) {
  for (int t = 0; t < tokens; ++t)
    std::copy_n(rows.data + t * rows.stride, operand_.dim, built_ + t * built_stride_);
}

}  // namespace kvlab
