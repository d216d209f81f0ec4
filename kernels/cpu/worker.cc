#include "kernels/cpu/worker.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "kernels/cpu/block.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/keys.h"
#include "kernels/cpu/values.h"

namespace kvlab {

WorkCounts& WorkCounts::operator+=(const WorkCounts& more) {
  bytes_read += more.bytes_read;
  multiply_adds += more.multiply_adds;
  certified_error = std::max(certified_error, more.certified_error);
  return *this;
}

int64_t ItemState::floats(const SumGroup& group, int64_t rows) {
  int64_t features = 0;
  for (const int width : group.widths) features += padded(width);
  return rows * features + 2 * padded(rows);
}

ItemState ItemState::at(float* memory, const SumGroup& group, int32_t rows) {
  ItemState state{.max = memory, .sum = memory + padded(rows), .rows = rows};
  float* sums = memory + 2 * padded(rows);
  for (const int width : group.widths) {
    state.sums.push_back(sums);
    state.strides.push_back(padded(width));
    sums += rows * padded(width);
  }
  return state;
}

void ItemState::clear() {
  std::fill_n(max, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, rows, 0.0f);
  for (size_t c = 0; c < sums.size(); ++c) std::fill_n(sums[c], rows * strides[c], 0.0f);
}

ItemShape shape_of(const AttendContext& context, const WorkItem& item) {
  const Layer& shape = *context.call->shape;
  const Recipe& recipe = context.work->recipes[static_cast<size_t>(item.recipe)];
  const int units = recipe.groups[static_cast<size_t>(item.group)].units;
  const int heads = shape.num_kv_heads / units;
  return {.first_kv_head = item.unit * heads,
          .kv_heads = heads,
          .tokens = item.rows,
          .group = context.heads_per_kv_head()};
}

int64_t multiply_adds(const AttendContext& context) {
  const WorkItems& work = *context.work;
  const int64_t features = context.call->shape->head_dim + context.call->shape->value_dim;
  int64_t all = 0;
  for (size_t i = 0; i < work.items.size(); ++i)
    all += int64_t{work.tiles[i]} * work.tile_tokens * shape_of(context, work.items[i]).rows();
  return all * features;
}

RowFacts::RowFacts(const AttendContext& context, const WorkItem& item, Scratch& scratch)
    : shape(shape_of(context, item)) {
  const Layer& layer = *context.call->shape;
  const int rows = shape.rows();
  position = scratch.take<int32_t>(rows);
  float* slopes = layer.alibi_slopes.empty() ? nullptr : scratch.take<float>(rows);
  slope = slopes;
  const TensorView& bias = context.call->distance_bias;
  const float** biases = bias ? scratch.take<const float*>(rows) : nullptr;
  distance_bias = biases;
  for (int kv = 0, r = 0; kv < shape.kv_heads; ++kv)
    for (int q = 0; q < shape.tokens; ++q)
      for (int g = 0; g < shape.group; ++g, ++r) {
        position[r] = context.call->rows.positions[static_cast<size_t>(item.first_row + q)];
        const int head = (shape.first_kv_head + kv) * shape.group + g;
        if (slopes != nullptr) slopes[r] = layer.alibi_slopes[static_cast<size_t>(head)];
        if (biases != nullptr) biases[r] = bias.as<const float>() + head * bias.stride(0);
      }
  span = {.first = position[0],
          .last = position[(shape.tokens - 1) * shape.group],
          .window_left = layer.window_left};
}

namespace {

/// Earlier sums are worth less once a larger logit was seen.
void rescale(const ItemState& state, const float* factor) {
  for (int r = 0; r < state.rows; ++r) {
    if (factor[r] == 1.0f) continue;
    for (size_t c = 0; c < state.sums.size(); ++c) {
      float* sums = state.sums[c] + r * state.strides[c];
      for (int64_t i = 0; i < state.strides[c]; ++i) sums[i] *= factor[r];
    }
  }
}

/// The rows of one segment that a piece covers.
struct RangePart {
  const ListRange* range = nullptr;
  int64_t first = 0, last = 0;
};

std::vector<RangePart> parts_of(const WorkItems& work, const WorkItem& item, int first_tile,
                                int last_tile) {
  std::vector<RangePart> parts;
  int before = 0;
  for (int i = 0; i < item.ranges; ++i) {
    const ListRange& range = work.ranges[static_cast<size_t>(item.first_range + i)];
    const int64_t low = std::max(first_tile, before) - before;
    const int64_t high = std::min<int64_t>(last_tile - before, range.tiles);
    if (low < high) {
      const int64_t origin = range.first / work.tile_tokens;  // tiles are aligned to multiples
      parts.push_back({&range, std::max(range.first, (origin + low) * work.tile_tokens),
                       std::min(range.last, (origin + high) * work.tile_tokens)});
    }
    before += range.tiles;
  }
  return parts;
}

void attend_range(const AttendContext& context, const WorkItem& item, const RowFacts& facts,
                  const RangePart& part, Scratch& scratch, const ItemState& state,
                  WorkCounts& counts) {
  const Scratch::Mark mark(scratch);
  const Recipe& recipe = context.work->recipes[static_cast<size_t>(item.recipe)];
  const SegmentReader& reader = recipe.segments[static_cast<size_t>(part.range->segment)];
  KeyScorer keys(context, item, reader, facts, *part.range, scratch);
  ValueAdder values(context, reader, facts, *part.range, scratch);
  constexpr int64_t stride = kMaxBlock + 16;
  float* scores = scratch.take<float>(facts.shape.rows() * stride);
  float* factor = scratch.take<float>(facts.shape.rows());
  Block block;
  BlockReader blocks(*reader.segment, *part.range, part.first, part.last, run_rows(reader),
                     facts.span);
  while (blocks.next(block)) {
    if (facts.reads_positions() || reader.key.is_rotated) blocks.read_intervals(block);
    keys.score(blocks, block, scores, stride, counts);
    SoftmaxBlock soft = keys.softmax(blocks, block, scores, stride);
    soft.max = state.max;
    soft.sum = state.sum;
    soft.factor = factor;
    context.steps->softmax(soft);
    rescale(state, factor);
    values.add(blocks, block, scores, stride, state, counts);
    counts.bytes_read += block.tokens * blocks.list().interval_bytes();
  }
  counts.certified_error = std::max(counts.certified_error, keys.error() + values.error());
}

}  // namespace

void attend_piece(const AttendContext& context, const WorkItem& item, int first_tile, int last_tile,
                  Scratch& scratch, const ItemState& state, WorkCounts& counts) {
  const Scratch::Mark mark(scratch);
  ItemState(state).clear();
  const RowFacts facts(context, item, scratch);
  for (const RangePart& part : parts_of(*context.work, item, first_tile, last_tile))
    attend_range(context, item, facts, part, scratch, state, counts);
}

}  // namespace kvlab
