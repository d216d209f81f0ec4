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
  if (operand.built) {
    const CodecTable& table = *context.float32;
    const TilePart any = float_rows(nullptr, 0, kMaxBlock, width);
    queries_ = scratch.take<u8>(table.query_bytes(any.params, width, kMaxBlock));
    no_scratch_ = scratch.take<u8>(table.scratch_bytes(any.params, width, kMaxBlock, operand.dim));
  }
}

DecodedRows::View DecodedRows::get(const Block& block, const HeadRun& run, int kv_head,
                                   WorkCounts& counts) {
  const bool is_decoded =
      decoded_unit_ == run.unit && (decoded_feature_ == run.first_feature || operand_.unrotate);
  if (!is_decoded) decode(block, run);
  View view{decoded_, decoded_stride_};
  if (operand_.is_slice() && operand_.unrotate) view.data += run.first_feature;
  if (operand_.built) view = {build(block, kv_head, counts), built_stride_};
  if (!operand_.is_rotated) return view;
  if (!operand_.built) {  // other heads may want the same rows as they are
    for (int t = 0; t < block.tokens; ++t)
      std::copy_n(view.data + t * view.stride, operand_.dim, built_ + t * built_stride_);
    view = {built_, built_stride_};
  }
  const Rope& rope = context_.call->shape->rope;
  context_.steps->rotate({.data = built_,
                          .stride = built_stride_,
                          .rows = block.tokens,
                          .pairs = rope.rotary_dim / 2,
                          .interleaved = rope.style == Rope::Style::interleaved,
                          .positions = block.position,
                          .fine = context_.rope.fine,
                          .coarse = context_.rope.coarse});
  return view;
}

void DecodedRows::decode(const Block& block, const HeadRun& run) {
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
  decoded_unit_ = run.unit;
  decoded_feature_ = run.first_feature;
}

const float* DecodedRows::build(const Block& block, int kv_head, WorkCounts& counts) {
  const int width = operand_.stream.layout().width, dim = operand_.dim;
  const float* up = operand_.operand->up.as<const float>() + int64_t{kv_head} * dim * width;
  const CodecTable& table = *context_.float32;
  const TilePart rows = float_rows(up, width, dim, width);
  table.prepare({.params = rows.params,
                 .queries = decoded_,
                 .stride = decoded_stride_,
                 .rows = block.tokens,
                 .first_feature = 0,
                 .features = width,
                 .to = queries_});
  table.score({.part = rows,
               .prepared = queries_,
               .rows = block.tokens,
               .out = built_,
               .out_stride = built_stride_,
               .ahead = {},
               .scratch = no_scratch_});
  counts.multiply_adds += int64_t{block.tokens} * dim * width;
  if (operand_.operand->bias) {
    const float* bias = operand_.operand->bias.as<const float>() + int64_t{kv_head} * dim;
    for (int t = 0; t < block.tokens; ++t)
      for (int c = 0; c < dim; ++c) built_[t * built_stride_ + c] += bias[c];
  }
  return built_;
}

}  // namespace kvlab
