#pragma once
// The items of work of a call: a tile of query rows against one unit of the coarsest operand, so
// that one item reads each stored row once for all of its uses.

#include <cstdint>
#include <map>
#include <vector>

#include "core/engine.h"
#include "kernels/cpu/recipe.h"
#include "kernels/plan.h"

namespace kvlab {

/// Rows of one list, in one segment, that an item reads: slots, or places in the narrowed list.
struct ListRange {
  int32_t segment = 0, list = 0;
  int64_t first = 0, last = 0;
  int32_t tiles = 0;  // that [first, last) touches
};

struct WorkItem {
  int32_t recipe = 0, group = 0, sequence = 0, unit = 0;
  int32_t first_row = 0, rows = 0;      // of the call: query tokens
  int32_t first_range = 0, ranges = 0;  // of `ranges`
};

/// Query tokens that are finished together: the items of each group lie one after another.
struct QueryTile {
  int32_t recipe = 0, sequence = 0, first_row = 0, rows = 0;
  int32_t first_item = 0;
};

struct WorkItems {
  int tile_tokens = 64;
  std::vector<Recipe> recipes{};
  std::vector<QueryTile> query_tiles{};
  std::vector<WorkItem> items{};
  std::vector<ListRange> ranges{};
  std::vector<int32_t> tiles{};  // of each item, what a plan is made of

  /// The item of a kv head: index into items.
  int32_t item_of(const QueryTile& tile, int group, int kv_head, int num_kv_heads) const;
};

struct WorkRequest {
  const Layer* shape = nullptr;
  RowMap rows{};
  std::span<const Segment> segments{};
  SplitPolicy split{};
  Level level = Level::automatic;
  Isa isa = Isa::scalar;
};

WorkItems make_items(const WorkRequest& request);

/// What Engine::plan returns.
struct CpuPlan final : Plan {
  std::vector<int32_t> tiles{};
  int tile_tokens = 64;
  WorkPlan work{};
};

CpuPlan make_plan(const WorkItems& items, const SplitPolicy& split, int workers);

}  // namespace kvlab
