#include "kernels/cpu/keys.h"

#include <algorithm>

namespace kvlab {
namespace {

/// Whether a value operand reads all of the key's rows anyway.
bool value_reads_key_rows(const SegmentReader& reader) {
  return std::ranges::any_of(reader.values, [&](const OperandReader& value) {
    return value.operand->stream == reader.key.operand->stream;
  });
}

}  // namespace

KeyScorer::KeyScorer(const AttendContext& context, const WorkItem& item,
                     const SegmentReader& reader, const RowFacts& facts, const ListRange& range,
                     Scratch& scratch)
    : context_(context),
      reader_(reader),
      key_(reader.key),
      facts_(facts),
      decoded_(context, reader.key, scratch),
      runs_(head_runs(context, facts.shape, reader.key)),
      counts_bytes_(!value_reads_key_rows(reader)),
      tokens_(range.last - range.first) {
  if (key_.folds_scale()) row_scale_ = scratch.take<float>(kMaxBlock);
  prepare(item, scratch);
}

/// Queries of the item's packed rows, float32, rotated as the segment wants them.
float* KeyScorer::load_queries(const WorkItem& item, Scratch& scratch) {
  const AttendCall& call = *context_.call;
  const ItemShape& shape = facts_.shape;
  const int dim = call.shape->head_dim;
  const int64_t stride = padded(dim);
  float* queries = scratch.take<float>(shape.rows() * stride);
  seen_from_ = scratch.take<int32_t>(shape.rows());
  const auto stands_at = reader_.segment->query_positions;
  for (int kv = 0, r = 0; kv < shape.kv_heads; ++kv)
    for (int q = 0; q < shape.tokens; ++q)
      for (int g = 0; g < shape.group; ++g, ++r) {
        const int row = item.first_row + q;
        load_row(*context_.steps, call.queries, row, (shape.first_kv_head + kv) * shape.group + g,
                 dim, queries + r * stride);
        seen_from_[r] =
            stands_at.empty() ? facts_.position[r] : stands_at[static_cast<size_t>(row)];
      }
  const Rope& rope = call.shape->rope;
  if (rope && !call.rotated)
    context_.steps->rotate({.data = queries,
                            .stride = stride,
                            .rows = shape.rows(),
                            .pairs = rope.rotary_dim / 2,
                            .interleaved = rope.style == Rope::Style::interleaved,
                            .positions = seen_from_,
                            .fine = context_.rope.fine,
                            .coarse = context_.rope.coarse});
  return queries;
}

/// q' = up^T q for each head, and q times the bias, which the logits keep.
float* KeyScorer::absorb(const float* queries, int64_t stride, Scratch& scratch) {
  const Operand& operand = *key_.operand;
  const int width = key_.stream.layout().width, dim = key_.dim;
  const ItemShape& shape = facts_.shape;
  const int64_t mapped_stride = padded(width);
  float* mapped = scratch.take<float>(shape.rows() * mapped_stride);
  std::fill_n(mapped, shape.rows() * mapped_stride, 0.0f);
  if (operand.bias) {
    bias_ = scratch.take<float>(shape.rows());
    std::fill_n(bias_, shape.rows(), 0.0f);
  }
  const int rows = shape.tokens * shape.group;
  for (int kv = 0; kv < shape.kv_heads; ++kv) {
    const int head = shape.first_kv_head + kv, first = kv * rows;
    ValueTile tile{};
    tile.part =
        float_rows(operand.up.as<const float>() + int64_t{head} * dim * width, width, dim, width);
    tile.weights = queries + first * stride;
    tile.weight_stride = stride;
    tile.rows = rows;
    tile.sums = mapped + first * mapped_stride;
    tile.sum_stride = mapped_stride;
    context_.float32->value(tile);
    if (operand.bias) {
      const float* bias = operand.bias.as<const float>() + int64_t{head} * dim;
      for (int r = first; r < first + rows; ++r)
        for (int c = 0; c < dim; ++c) bias_[r] += queries[r * stride + c] * bias[c];
    }
  }
  return mapped;
}

void KeyScorer::prepare(const WorkItem& item, Scratch& scratch) {
  float* queries = load_queries(item, scratch);
  int64_t stride = padded(context_.call->shape->head_dim);
  if (key_.is_up() && !key_.built) {
    queries = absorb(queries, stride, scratch);
    stride = padded(key_.width());
  }
  if (key_.folds_hadamard())
    context_.steps->hadamard(queries, stride, facts_.shape.rows(), key_.width(), false);
  const CodecTable& stored = key_.stream.table();
  const CodecTable& table = this->table();
  int most_rows = 0;
  for (HeadRun& run : runs_) {
    run.state = scratch.take<u8>(stored.state_bytes());
    stored.begin(key_.stream.kernels().params,
                 {.query = queries + run.first_row * stride,
                  .rows = run.rows,
                  .stride = stride,
                  .scale = static_cast<float>(context_.call->shape->scale),
                  .tokens = tokens_},
                 run.state);
    run.prepared = scratch.take<u8>(table.query_bytes(params(), key_.width(), run.rows));
    table.prepare({.params = params(),
                   .queries = queries + run.first_row * stride,
                   .stride = stride,
                   .rows = run.rows,
                   .first_feature = key_.decodes() ? 0 : run.first_feature,
                   .features = key_.width(),
                   .to = run.prepared});
    most_rows = std::max(most_rows, run.rows);
  }
  scratch_ = scratch.take<u8>(table.scratch_bytes(params(), key_.width(), most_rows, kMaxBlock));
}

const CodecTable& KeyScorer::table() const {
  return key_.decodes() ? *context_.float32 : key_.stream.table();
}
const void* KeyScorer::params() const {
  return key_.decodes() ? float_rows(nullptr, 0, 0, 0).params : key_.stream.kernels().params;
}

void KeyScorer::score(const BlockReader& blocks, const Block& block, float* scores, int64_t stride,
                      WorkCounts& counts) {
  decoded_.next_block();
  for (const HeadRun& run : runs_) {
    if (key_.decodes())
      score_decoded(run, blocks, block, scores, stride, counts);
    else
      score_stored(run, blocks, block, scores, stride, counts);
    counts.multiply_adds += int64_t{run.rows} * block.tokens * key_.width();
  }
}

void KeyScorer::score_stored(const HeadRun& run, const BlockReader& blocks, const Block& block,
                             float* scores, int64_t stride, WorkCounts& counts) {
  for (const Run& rows : block.runs) {
    const int64_t bytes =
        table().score({.part = key_.stream.part(rows.page, run.unit, rows.row, rows.rows,
                                                run.first_feature, key_.width(), run.state),
                       .prepared = run.prepared,
                       .rows = run.rows,
                       .out = scores + run.first_row * stride + rows.at,
                       .out_stride = stride,
                       .ahead = key_.stream.ahead(blocks.ahead(rows.at), run.unit),
                       .scratch = scratch_});
    if (counts_bytes_) counts.bytes_read += bytes;
  }
}

void KeyScorer::score_decoded(const HeadRun& run, const BlockReader& blocks, const Block& block,
                              float* scores, int64_t stride, WorkCounts& counts) {
  // Rebuilt rows belong to one kv head, others to all heads of the run.
  const int kv_heads = key_.built ? 1 : run.kv_heads, rows = run.rows / run.kv_heads * kv_heads;
  for (int i = 0; i < run.kv_heads; i += kv_heads) {
    const DecodedRows::View keys = decoded_.get(blocks, block, run, run.first_kv_head + i, counts);
    const int first = i * (run.rows / run.kv_heads);
    table().score({.part = float_rows(keys.data, keys.stride, block.tokens, key_.dim),
                   .prepared = run.prepared + table().query_bytes(params(), key_.dim, first),
                   .rows = rows,
                   .out = scores + (run.first_row + first) * stride,
                   .out_stride = stride,
                   .ahead = {},
                   .scratch = scratch_});
  }
  if (counts_bytes_)
    counts.bytes_read += block.tokens * key_.stream.bytes_per_row() * key_.read_features() /
                         key_.stream.layout().width;
}

SoftmaxBlock KeyScorer::softmax(const BlockReader& blocks, const Block& block, float* scores,
                                int64_t stride) {
  const Layer& layer = *context_.call->shape;
  SoftmaxBlock soft;
  soft.scores = scores;
  soft.stride = stride;
  soft.rows = facts_.shape.rows();
  soft.tokens = block.tokens;
  soft.scale = static_cast<float>(layer.scale);
  soft.softcap = static_cast<float>(layer.softcap);
  soft.bias = bias_;
  soft.slope = facts_.slope;
  soft.key_scale = row_scale(blocks.list(), block);
  soft.distance_bias = facts_.distance_bias;
  soft.seen_from = seen_from_;
  soft.distances = layer.distance_bias;
  soft.query_position = facts_.position;
  soft.position = block.position;
  if (block.is_masked) {
    soft.from = block.from;
    soft.until = block.until;
    soft.window_left = static_cast<int32_t>(layer.window_left);
  }
  return soft;
}

const float* KeyScorer::row_scale(const ListReader& list, const Block& block) {
  if (row_scale_ == nullptr) return nullptr;
  for (const Run& run : block.runs) list.column(run, key_.scale_column, row_scale_ + run.at);
  return row_scale_;
}

double KeyScorer::error() const {
  double error = 0;
  for (const HeadRun& run : runs_)
    error =
        std::max<double>(error, key_.stream.table().error(key_.stream.kernels().params, run.state));
  return error;
}

}  // namespace kvlab
