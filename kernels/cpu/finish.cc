#include "kernels/cpu/finish.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/convert.h"
#include "kernels/merge.h"

namespace kvlab {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

/// Attention of some rows, normalised: o [rows, stride], lse [rows].
struct Normalised {
  float *o = nullptr, *lse = nullptr;
  int64_t stride = 0;
};

/// One row of a contribution over all pieces, divided by their common sum.
struct RowMerge {
  float max = kNone, sum = 0;
  std::vector<float> share{};  // of each piece's unnormalised sums

  RowMerge(const HeadStates& states, int row) : share(states.pieces.size()) {
    for (size_t i = 0; i < states.pieces.size(); ++i) {
      const ItemState& piece = states.pieces[i];
      const Merge m = Merge::of(max, sum, piece.max[row], piece.sum[row]);
      for (size_t k = 0; k < i; ++k) share[k] *= m.a;
      share[i] = m.b;
      max = m.max;
      sum = m.sum;
    }
    const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
    for (float& s : share) s *= inverse;
  }
};

/// Sums of one contribution through its map, added to `to`.
void add_mapped(const AttendContext& context, const OperandReader& operand, int kv_head, float* x,
                int64_t stride, int rows, const Normalised& to, Scratch& scratch,
                WorkCounts& counts) {
  if (operand.folds_hadamard()) context.steps->hadamard(x, stride, rows, operand.width(), true);
  if (!operand.is_up() || operand.built) {
    for (int r = 0; r < rows; ++r)
      context.steps->blend(to.o + r * to.stride, 1.0f, x + r * stride, 1.0f, operand.dim);
    return;
  }
  const int width = operand.width(), dim = operand.dim;
  const CodecTable& table = *context.float32;
  const TilePart up = float_rows(
      operand.operand->up.as<const float>() + int64_t{kv_head} * dim * width, width, dim, width);
  u8* prepared = scratch.take<u8>(table.query_bytes(up.params, width, rows));
  u8* work = scratch.take<u8>(table.scratch_bytes(up.params, width, rows, dim));
  const int64_t mapped_stride = padded(dim);
  float* mapped = scratch.take<float>(rows * mapped_stride);
  table.prepare({.params = up.params,
                 .queries = x,
                 .stride = stride,
                 .rows = rows,
                 .first_feature = 0,
                 .features = width,
                 .to = prepared});
  table.score({.part = up,
               .prepared = prepared,
               .rows = rows,
               .out = mapped,
               .out_stride = mapped_stride,
               .ahead = {},
               .scratch = work});
  counts.multiply_adds += int64_t{rows} * dim * width;
  const float* bias = operand.operand->bias
                          ? operand.operand->bias.as<const float>() + int64_t{kv_head} * dim
                          : nullptr;
  for (int r = 0; r < rows; ++r) {
    context.steps->blend(to.o + r * to.stride, 1.0f, mapped + r * mapped_stride, 1.0f, dim);
    if (bias != nullptr && to.lse[r] != kNone)
      context.steps->blend(to.o + r * to.stride, 1.0f, bias, 1.0f, dim);
  }
}

/// One group's attention.
Normalised finish_group(const AttendContext& context, const HeadStates& states, int kv_head,
                        int rows, Scratch& scratch, WorkCounts& counts) {
  const int64_t stride = padded(context.call->shape->value_dim);
  Normalised to{scratch.take<float>(rows * stride), scratch.take<float>(rows), stride};
  std::fill_n(to.o, rows * stride, 0.0f);
  std::vector<RowMerge> merges;
  for (int r = 0; r < rows; ++r) {
    merges.emplace_back(states, states.first_row + r);
    to.lse[r] = lse_ln(merges.back().max, merges.back().sum);
  }
  for (size_t c = 0; c < states.group->widths.size(); ++c) {
    const int64_t sum_stride = padded(states.group->widths[c]);
    float* x = scratch.take<float>(rows * sum_stride);
    std::fill_n(x, rows * sum_stride, 0.0f);
    for (int r = 0; r < rows; ++r)
      for (size_t i = 0; i < states.pieces.size(); ++i) {
        const ItemState& piece = states.pieces[i];
        const float share = merges[static_cast<size_t>(r)].share[i];
        if (share != 0.0f)
          context.steps->blend(x + r * sum_stride, 1.0f,
                               piece.sums[c] + (states.first_row + r) * piece.strides[c], share,
                               sum_stride);
      }
    add_mapped(context, *states.group->maps[c], kv_head, x, sum_stride, rows, to, scratch, counts);
  }
  return to;
}

/// a = the union of a and b.
void merge_row(const AttendContext& context, float* a, float* lse_a, const float* b, float lse_b,
               int64_t count) {
  const MergeNormalised m = MergeNormalised::of(*lse_a, lse_b);
  *lse_a = m.lse;
  if (m.b != 0.0f || std::isnan(m.b)) context.steps->blend(a, m.a, b, m.b, count);
}

/// A sink takes part in the denominator only; empty rows stay 0.
void add_sink(const AttendContext& context, float sink, float* o, float* lse, int64_t count) {
  const MergeNormalised m = MergeNormalised::of(*lse, sink);
  *lse = m.lse;
  context.steps->blend(o, m.a, o, 0.0f, count);
}

}  // namespace

void finish_head(const AttendContext& context, const QueryTile& tile, int kv_head,
                 std::span<const HeadStates> groups, const Results& results, Scratch& scratch,
                 WorkCounts& counts) {
  const Scratch::Mark mark(scratch);
  const AttendCall& call = *context.call;
  const int heads = context.heads_per_kv_head(), rows = tile.rows * heads;
  const int64_t dim = call.shape->value_dim;
  Normalised all = finish_group(context, groups[0], kv_head, rows, scratch, counts);
  for (size_t g = 1; g < groups.size(); ++g) {
    const Normalised more = finish_group(context, groups[g], kv_head, rows, scratch, counts);
    for (int r = 0; r < rows; ++r)
      merge_row(context, all.o + r * all.stride, all.lse + r, more.o + r * more.stride, more.lse[r],
                dim);
  }
  for (int r = 0; r < rows; ++r) {
    const int64_t row = tile.first_row + r / heads, head = int64_t{kv_head} * heads + r % heads;
    float *o = all.o + r * all.stride, *lse = all.lse + r;
    const int64_t cell = row * call.shape->num_heads + head;
    if (results.out != nullptr && !results.is_first)
      merge_row(context, o, lse, results.out + cell * results.out_stride, results.lse[cell], dim);
    if (results.is_last) {
      if (!call.sinks.empty())
        add_sink(context, call.sinks[static_cast<size_t>(head)], o, lse, dim);
      if (call.out) store_row(*context.steps, call.out, row, head, dim, o);
      if (call.lse_ln)
        call.lse_ln.as<float>()[row * call.lse_ln.stride(0) + head * call.lse_ln.stride(1)] = *lse;
    } else {
      std::copy_n(o, dim, results.out + cell * results.out_stride);
    }
    if (results.lse != nullptr) results.lse[cell] = *lse;
  }
}

}  // namespace kvlab
