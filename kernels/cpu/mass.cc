#include "kernels/cpu/mass.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cpu/block.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/keys.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

constexpr float kLog2E = 1.442695041f;
constexpr int64_t kTaskRows = 4096;  // stored rows of one task

/// The items of one sequence, group and unit, whose probabilities go to the same columns.
struct MassTask {
  std::vector<const WorkItem*> items{};
  int32_t range = 0;            // of each item's ranges
  int64_t first = 0, last = 0;  // slots
};

/// Of an item's tokens, those among the last queries of its sequence.
WorkItem last_queries(const AttendCall& call, WorkItem item) {
  const int64_t wanted = call.mass_request ? call.mass_request->last_queries : 0;
  if (wanted <= 0) return item;
  const Range rows = call.rows.rows_of(item.sequence);
  const int64_t first = std::max<int64_t>(item.first_row, rows.last - wanted);
  const int64_t last = int64_t{item.first_row} + item.rows;
  item.first_row = static_cast<int32_t>(std::min(first, last));
  item.rows = static_cast<int32_t>(last - item.first_row);
  return item;
}

void add_item(const MassPass& pass, const WorkItem& item, const MassTask& task, Scratch& scratch,
              WorkCounts& counts) {
  if (item.rows == 0) return;
  const AttendContext& context = *pass.context;
  const AttendCall& call = *context.call;
  const Scratch::Mark mark(scratch);
  const RowFacts facts(context, item, scratch);
  const ListRange& range = context.work->ranges[static_cast<size_t>(item.first_range + task.range)];
  const SegmentReader& reader = context.work->recipes[static_cast<size_t>(item.recipe)]
                                    .segments[static_cast<size_t>(range.segment)];
  const int rows = facts.shape.rows();
  constexpr int64_t stride = kMaxBlock + 16;
  KeyScorer keys(context, item, reader, facts, range, scratch);
  float* scores = scratch.take<float>(rows * stride);
  float* lse = scratch.take<float>(rows);
  int32_t* column = scratch.take<int32_t>(rows);
  const int lists = reader.segment->rows.lists_per_sequence;
  const int heads_of_list = call.shape->num_heads / lists;
  const ItemShape& shape = facts.shape;
  for (int kv = 0, r = 0; kv < shape.kv_heads; ++kv)
    for (int q = 0; q < shape.tokens; ++q)
      for (int g = 0; g < shape.group; ++g, ++r) {
        const int head = (shape.first_kv_head + kv) * shape.group + g;
        lse[r] = kLog2E * pass.lse[int64_t{item.first_row + q} * call.shape->num_heads + head];
        column[r] = head % heads_of_list;
      }
  float* mass = call.mass.as<float>();
  const int64_t mass_stride = call.mass.stride(0);
  const int64_t base =
      pass.rows->base(range.list, pass.segments[static_cast<size_t>(range.segment)]);
  const bool take_max = call.mass_request && call.mass_request->over == MassRequest::Over::max;
  Block block;
  BlockReader blocks(*reader.segment, range, std::max(range.first, task.first),
                     std::min(range.last, task.last), run_rows(reader), facts.span);
  while (blocks.next(block)) {
    if (facts.reads_positions() || reader.key.is_rotated) blocks.read_intervals(block);
    keys.score(blocks, block, scores, stride, counts);
    MassBlock m{.block = keys.softmax(blocks, block, scores, stride),
                .take_max = take_max,
                .mass_stride = mass_stride,
                .column = column};
    m.block.max = lse;
    for (const Run& run : block.runs) {
      m.mass = mass + (base + run.slot) * mass_stride;
      m.first = run.at;
      m.tokens = run.rows;
      context.steps->mass(m);
    }
  }
}

/// Tasks write disjoint cells: other columns, or other rows of the same ones.
std::vector<MassTask> tasks_of(const AttendContext& context) {
  const WorkItems& work = *context.work;
  std::vector<MassTask> tasks;
  for (size_t first = 0; first < work.query_tiles.size();) {
    size_t last = first;
    while (last < work.query_tiles.size() &&
           work.query_tiles[last].sequence == work.query_tiles[first].sequence)
      ++last;
    const QueryTile& tile = work.query_tiles[first];
    const size_t items =
        (last < work.query_tiles.size() ? static_cast<size_t>(work.query_tiles[last].first_item)
                                        : work.items.size()) -
        static_cast<size_t>(tile.first_item);
    const size_t per_tile = items / (last - first);
    for (size_t i = 0; i < per_tile; ++i) {
      MassTask task;
      for (size_t t = first; t < last; ++t)
        task.items.push_back(&work.items[static_cast<size_t>(work.query_tiles[t].first_item) + i]);
      for (task.range = 0; task.range < task.items.front()->ranges; ++task.range) {
        int64_t low = kForever, high = 0;
        for (const WorkItem* item : task.items) {
          const ListRange& range = work.ranges[static_cast<size_t>(item->first_range + task.range)];
          low = std::min(low, range.first);
          high = std::max(high, range.last);
        }
        for (int64_t at = low / kTaskRows * kTaskRows; at < high; at += kTaskRows) {
          task.first = std::max(low, at);
          task.last = std::min(high, at + kTaskRows);
          tasks.push_back(task);
        }
      }
    }
    first = last;
  }
  return tasks;
}

}  // namespace

MassRows::MassRows(std::span<const Segment> segments) : segments_(segments.size()) {
  const size_t lists = segments.empty() ? 0 : segments.front().rows.lists.size();
  for (size_t l = 0; l < lists; ++l)
    for (const Segment& segment : segments) {
      const ListView& list = segment.rows.lists[l];
      base_.push_back(size_ - list.first);
      size_ += list.last - list.first;
    }
}

void check_mass(const AttendCall& call, const MassRows& rows) {
  const int lists = call.segments.empty() ? 1 : call.segments.front().rows.lists_per_sequence;
  const int heads = call.shape->num_heads / lists;
  KVLAB_REQUIRE(call.mass.dtype == Dtype::f32 && call.mass.dims == 2 &&
                    call.mass.size(0) == rows.size() && call.mass.size(1) == heads &&
                    (call.mass.stride(1) == 1 || heads == 1),
                "E_SHAPE", "cpu engine: mass must be float32 [", rows.size(), ", ", heads,
                "] (rows of all lists, query heads of a list) with heads side by side");
  KVLAB_REQUIRE(call.out || call.lse_ln, "E_SHAPE",
                "cpu engine: mass without out needs lse_ln, the log-sum-exp of an earlier attend");
}

void add_mass(const MassPass& pass, CpuResources& resources, std::vector<WorkCounts>& counts) {
  const std::vector<MassTask> tasks = tasks_of(*pass.context);
  const int threads = worthwhile_threads(resources.threads, multiply_adds(*pass.context));
  run_parallel(static_cast<int>(tasks.size()), threads, [&](int i, int thread) {
    const MassTask& task = tasks[static_cast<size_t>(i)];
    for (const WorkItem* item : task.items)
      add_item(pass, last_queries(*pass.context->call, *item), task,
               resources.scratch[static_cast<size_t>(thread)], counts[static_cast<size_t>(thread)]);
  });
}

}  // namespace kvlab
