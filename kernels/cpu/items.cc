#include "kernels/cpu/items.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr int kTileTokens = 64;
constexpr int kItemRows = 128;  // packed query rows of an item, unless one token has more
constexpr int kStartCost = 1;   // tiles that starting a piece is worth

/// Tiles of `tile` rows, aligned to multiples of it, that [first, last) touches.
int32_t tiles_of(int64_t first, int64_t last, int tile) {
  return last <= first ? 0 : static_cast<int32_t>((last - 1) / tile - first / tile + 1);
}

/// The coarsest unit of all operands: what bounds the rows of an item.
int coarsest_unit(const std::span<const Segment> segments, int num_kv_heads) {
  int units = num_kv_heads;
  const auto use = [&](const Operand& operand, const PartView& part) {
    const int stream = part.page->stream(operand.stream);
    if (stream >= 0)
      units = std::gcd(
          units, part.page->streams[static_cast<size_t>(stream)].units * part.lists_per_sequence);
  };
  for (const Segment& segment : segments) {
    use(segment.layout->key, segment.rows);
    for (const Operand& value : segment.layout->values) use(value, segment.rows);
  }
  return std::max(units, 1);
}

ListRange range_of(const Segment& segment, int index, int list, const Layer& shape,
                   int64_t first_query, int64_t last_query, int tile) {
  const ListReader reader(segment.rows, list);
  const Range slots = reader.reachable(first_query, last_query, shape.window_left);
  ListRange range{.segment = index, .list = list, .first = slots.first, .last = slots.last};
  if (segment.narrowed) {
    const auto indptr = segment.narrowed->indptr;
    const int64_t* all = segment.narrowed->values.as<const int64_t>();
    const int64_t* begin = all + indptr[static_cast<size_t>(list)];
    const int64_t* end = all + indptr[static_cast<size_t>(list) + 1];
    range.first = std::lower_bound(begin, end, slots.first) - begin;
    range.last = std::max<int64_t>(range.first, std::lower_bound(begin, end, slots.last) - begin);
  }
  range.tiles = tiles_of(range.first, range.last, tile);
  return range;
}

class Builder {
 public:
  explicit Builder(const WorkRequest& request) : request_(request) {
    if (request.split.kind == SplitPolicy::Kind::fixed) {
      KVLAB_REQUIRE(request.split.tokens >= 1 && request.split.tokens <= 1 << 20, "E_CONFIG",
                    "cpu engine: fixed split of ", request.split.tokens,
                    " tokens; allowed: 1..1048576");
      work_.tile_tokens = static_cast<int>(request.split.tokens);
    } else {
      work_.tile_tokens = kTileTokens;
    }
  }

  WorkItems build() {
    const Layer& shape = *request_.shape;
    const int heads = shape.num_heads / coarsest_unit(request_.segments, shape.num_kv_heads);
    const int64_t tile_rows = std::max(1, kItemRows / heads);
    for (size_t s = 0; s < request_.rows.sequences.size(); ++s) {
      const Range rows = request_.rows.rows_of(static_cast<int64_t>(s));
      const int recipe = recipe_for(std::min(rows.size(), tile_rows));
      for (int64_t first = rows.first; first < rows.last; first += tile_rows)
        add_tile(recipe, static_cast<int32_t>(s), first, std::min(rows.last, first + tile_rows));
    }
    return std::move(work_);
  }

 private:
  int recipe_for(int64_t query_tokens) {
    const auto [found, is_new] =
        recipe_of_.try_emplace(query_tokens, static_cast<int>(work_.recipes.size()));
    if (is_new) {
      const Layer& shape = *request_.shape;
      work_.recipes.push_back(
          make_recipe({.shape = &shape,
                       .segments = request_.segments,
                       .isa = request_.isa,
                       .level = request_.level,
                       .rows_per_head = query_tokens * shape.num_heads / shape.num_kv_heads}));
    }
    return found->second;
  }

  void add_tile(int recipe, int32_t sequence, int64_t first, int64_t last) {
    work_.query_tiles.push_back({.recipe = recipe,
                                 .sequence = sequence,
                                 .first_row = static_cast<int32_t>(first),
                                 .rows = static_cast<int32_t>(last - first),
                                 .first_item = static_cast<int32_t>(work_.items.size())});
    const std::vector<SumGroup>& groups = work_.recipes[static_cast<size_t>(recipe)].groups;
    for (size_t g = 0; g < groups.size(); ++g)
      for (int unit = 0; unit < groups[g].units; ++unit)
        add_item(groups[g], {.recipe = recipe,
                             .group = static_cast<int32_t>(g),
                             .sequence = sequence,
                             .unit = unit,
                             .first_row = static_cast<int32_t>(first),
                             .rows = static_cast<int32_t>(last - first)});
  }

  void add_item(const SumGroup& group, WorkItem item) {
    const int lists =
        request_.segments[static_cast<size_t>(group.segments.front())].rows.lists_per_sequence;
    const int list = item.unit * lists / group.units;
    const WorkItem* before = work_.items.empty() ? nullptr : &work_.items.back();
    const bool shares = before != nullptr && before->first_row == item.first_row &&
                        before->group == item.group && list == before->unit * lists / group.units;
    if (shares) {
      item.first_range = before->first_range;
      item.ranges = before->ranges;
    } else {
      item.first_range = static_cast<int32_t>(work_.ranges.size());
      item.ranges = static_cast<int32_t>(group.segments.size());
      const auto positions = request_.rows.positions;
      for (const int segment : group.segments)
        work_.ranges.push_back(range_of(
            request_.segments[static_cast<size_t>(segment)], segment, item.sequence * lists + list,
            *request_.shape, positions[static_cast<size_t>(item.first_row)],
            positions[static_cast<size_t>(item.first_row + item.rows - 1)], work_.tile_tokens));
    }
    int32_t tiles = 0;
    for (int i = 0; i < item.ranges; ++i)
      tiles += work_.ranges[static_cast<size_t>(item.first_range + i)].tiles;
    work_.items.push_back(item);
    work_.tiles.push_back(tiles);
  }

  const WorkRequest& request_;
  WorkItems work_{};
  std::map<int64_t, int> recipe_of_{};
};

}  // namespace

int32_t WorkItems::item_of(const QueryTile& tile, int group, int kv_head, int num_kv_heads) const {
  const std::vector<SumGroup>& groups = recipes[static_cast<size_t>(tile.recipe)].groups;
  int32_t item = tile.first_item;
  for (int g = 0; g < group; ++g) item += groups[static_cast<size_t>(g)].units;
  return item + kv_head * groups[static_cast<size_t>(group)].units / num_kv_heads;
}

WorkItems make_items(const WorkRequest& request) { return Builder(request).build(); }

CpuPlan make_plan(const WorkItems& items, const SplitPolicy& split, int workers) {
  CpuPlan plan;
  plan.tiles = items.tiles;
  plan.tile_tokens = items.tile_tokens;
  plan.work = split.kind == SplitPolicy::Kind::fixed ? plan_fixed(items.tiles, kStartCost, workers)
                                                     : plan_flat(items.tiles, kStartCost, workers);
  return plan;
}

}  // namespace kvlab
