#include "kernels/cpu/pass.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "kernels/float_tables.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

/// The largest position that is rotated in a call.
int64_t last_position(const AttendCall& call) {
  int64_t last = 0;
  for (const int32_t p : call.rows.positions) last = std::max<int64_t>(last, p);
  for (const Segment& segment : call.segments) {
    for (const int32_t p : segment.query_positions) last = std::max<int64_t>(last, p);
    for (size_t l = 0; l < segment.rows.lists.size(); ++l)
      last = std::max(last, ListReader(segment.rows, static_cast<int>(l)).last_position());
  }
  return last;
}

}  // namespace

AttendPass::AttendPass(CpuResources& resources, const AttendCall& call, const Results& results)
    : resources_(resources), call_(call), results_(results) {
  work_ = make_items({.shape = call.shape,
                      .rows = call.rows,
                      .segments = call.segments,
                      .split = call.split,
                      .level = call.level,
                      .isa = resources.isa});
  context_ = {.call = &call,
              .work = &work_,
              .steps = &attention_steps(resources.isa),
              .float32 = &float32_table(resources.isa)};
  if (call.shape->rope) {
    rope_ = rope_table(call.shape->rope);
    context_.rope = rope_->cover(last_position(call));
  }
  counts_.resize(static_cast<size_t>(resources.threads));
}

void AttendPass::run() {
  if (call_.segments.empty()) return finish_empty();
  plan();
  place_states();
  const int threads = worthwhile_threads(resources_.threads, multiply_adds(context_));
  run_parallel(resources_.workers(), threads, [&](int worker, int thread) {
    for (const Piece& piece : plan_->work.of(worker)) run_piece(piece, thread);
  });
  finish_rest(threads);
}

WorkCounts AttendPass::counts() const {
  WorkCounts total;
  for (const WorkCounts& one : counts_) total += one;
  return total;
}

void AttendPass::plan() {
  const auto* given = dynamic_cast<const CpuPlan*>(call_.plan);
  KVLAB_REQUIRE(call_.plan == nullptr || given != nullptr, "E_STALE_PLAN",
                "cpu engine: the plan was made by another engine");
  if (given != nullptr && call_.level == Level::automatic) {
    KVLAB_REQUIRE(given->tile_tokens == work_.tile_tokens && given->tiles == work_.tiles,
                  "E_STALE_PLAN",
                  "cpu engine: rows, lists or the split changed since the plan was made; plan "
                  "again");
    plan_ = given;
  } else {
    own_plan_ = make_plan(work_, call_.split, resources_.workers());
    plan_ = &own_plan_;
  }
}

/// Room for the states that are finished later, in the order of pieces.
void AttendPass::place_states() {
  const std::vector<Piece>& pieces = plan_->work.pieces;
  states_.assign(pieces.size(), {});
  pieces_of_.assign(work_.items.size(), {});
  for (size_t i = 0; i < pieces.size(); ++i) {
    const WorkItem& item = work_.items[static_cast<size_t>(pieces[i].item)];
    if (is_direct(pieces[i], item)) continue;
    const int32_t rows = shape_of(context_, item).rows();
    states_[i] =
        ItemState::at(resources_.shared.take<float>(ItemState::floats(group_of(item), rows)),
                      group_of(item), rows);
    pieces_of_[static_cast<size_t>(pieces[i].item)].push_back(static_cast<int32_t>(i));
  }
}

void AttendPass::run_piece(const Piece& piece, int thread) {
  const WorkItem& item = work_.items[static_cast<size_t>(piece.item)];
  Scratch& scratch = resources_.scratch[static_cast<size_t>(thread)];
  WorkCounts& counts = counts_[static_cast<size_t>(thread)];
  if (!is_direct(piece, item)) {
    const size_t index = static_cast<size_t>(&piece - plan_->work.pieces.data());
    return attend_piece(context_, item, piece.first_tile, piece.last_tile, scratch, states_[index],
                        counts);
  }
  const Scratch::Mark mark(scratch);
  const ItemShape shape = shape_of(context_, item);
  const SumGroup& group = group_of(item);
  const ItemState state = ItemState::at(scratch.take<float>(ItemState::floats(group, shape.rows())),
                                        group, shape.rows());
  attend_piece(context_, item, piece.first_tile, piece.last_tile, scratch, state, counts);
  const QueryTile tile{.recipe = item.recipe,
                       .sequence = item.sequence,
                       .first_row = item.first_row,
                       .rows = item.rows};
  for (int kv = shape.first_kv_head; kv < shape.first_kv_head + shape.kv_heads; ++kv) {
    const HeadStates states{&group, {state}, shape.first_row(kv)};
    finish_head(context_, tile, kv, std::span(&states, 1), results_, scratch, counts);
  }
}

/// Whatever was split, or belongs to several groups.
void AttendPass::finish_rest(int threads) {
  struct Task {
    const QueryTile* tile;
    int kv_head;
  };
  std::vector<Task> tasks;
  for (const QueryTile& tile : work_.query_tiles)
    for (int kv = 0; kv < call_.shape->num_kv_heads; ++kv)
      if (!pieces_of_[static_cast<size_t>(item_of(tile, 0, kv))].empty())
        tasks.push_back({&tile, kv});
  run_parallel(static_cast<int>(tasks.size()), threads, [&](int i, int thread) {
    const Task& task = tasks[static_cast<size_t>(i)];
    const Recipe& recipe = work_.recipes[static_cast<size_t>(task.tile->recipe)];
    std::vector<HeadStates> groups;
    for (size_t g = 0; g < recipe.groups.size(); ++g) {
      const int32_t item = item_of(*task.tile, static_cast<int>(g), task.kv_head);
      HeadStates states{
          .group = &recipe.groups[g],
          .first_row =
              shape_of(context_, work_.items[static_cast<size_t>(item)]).first_row(task.kv_head)};
      for (const int32_t piece : pieces_of_[static_cast<size_t>(item)])
        states.pieces.push_back(states_[static_cast<size_t>(piece)]);
      groups.push_back(std::move(states));
    }
    finish_head(context_, *task.tile, task.kv_head, groups, results_,
                resources_.scratch[static_cast<size_t>(thread)],
                counts_[static_cast<size_t>(thread)]);
  });
}

/// Nothing to read at all: every query's state is the identity.
void AttendPass::finish_empty() {
  const SumGroup nothing{};
  for (int64_t row = 0; row < call_.rows.size(); ++row)
    for (int kv = 0; kv < call_.shape->num_kv_heads; ++kv) {
      const QueryTile tile{.first_row = static_cast<int32_t>(row), .rows = 1};
      const HeadStates states{.group = &nothing};
      finish_head(context_, tile, kv, std::span(&states, 1), results_, resources_.scratch.front(),
                  counts_.front());
    }
}

}  // namespace kvlab
