#include "kernels/plan.h"

#include <algorithm>

#include "core/error.h"

namespace kvlab {
namespace {

int64_t total_weight(std::span<const int32_t> tiles, int start_cost) {
  int64_t total = 0;
  for (const int32_t n : tiles) total += n + start_cost;
  return total;
}

/// Piece of an item at weights [begin, begin + tiles + start_cost) for the worker that owns [low,
/// high), or an empty one.
Piece cut(int32_t item, int64_t tiles, int64_t begin, int64_t start_cost, int64_t low,
          int64_t high) {
  const auto tile_at = [&](int64_t weight) {
    return std::clamp<int64_t>(weight - begin - start_cost, 0, tiles);
  };
  const int64_t first = begin < low ? tile_at(low) : 0;
  const int64_t last = begin + tiles + start_cost > high ? tile_at(high) : tiles;
  return {item, static_cast<int32_t>(first), static_cast<int32_t>(last), -1};
}

}  // namespace

WorkPlan plan_flat(std::span<const int32_t> tiles, int start_cost, int workers) {
  KVLAB_CHECK(start_cost >= 1 && workers >= 1);
  const int64_t quota = (total_weight(tiles, start_cost) + workers - 1) / workers;
  WorkPlan plan{.first_piece = {0}, .slots = 2 * workers};
  size_t item = 0;
  int64_t begin = 0;  // weight before `item`
  for (int worker = 0; worker < workers; ++worker) {
    const int64_t low = worker * quota, high = low + quota;
    while (item < tiles.size() && begin < high) {
      const int64_t n = tiles[item], end = begin + n + start_cost;
      Piece piece = cut(static_cast<int32_t>(item), n, begin, start_cost, low, high);
      if (piece.first_tile > 0)
        piece.slot = 2 * worker;
      else if (piece.last_tile < n)
        piece.slot = 2 * worker + 1;
      // An empty item belongs to the worker of its last unit of weight.
      if (n == 0 ? end <= high : piece.last_tile > piece.first_tile) plan.pieces.push_back(piece);
      if (end > high) break;
      begin = end;
      ++item;
    }
    plan.first_piece.push_back(static_cast<int32_t>(plan.pieces.size()));
  }
  return plan;
}

WorkPlan plan_fixed(std::span<const int32_t> tiles, int start_cost, int workers) {
  KVLAB_CHECK(start_cost >= 1 && workers >= 1);
  int64_t total = 0;
  for (const int32_t n : tiles) total += std::max(n, 1) * int64_t{1 + start_cost};
  const int64_t quota = std::max<int64_t>(1, (total + workers - 1) / workers);
  WorkPlan plan{.first_piece = {0}};
  int64_t begin = 0;
  const auto add = [&](Piece piece) {
    while (begin >= static_cast<int64_t>(plan.first_piece.size()) * quota)
      plan.first_piece.push_back(static_cast<int32_t>(plan.pieces.size()));
    plan.pieces.push_back(piece);
    begin += 1 + start_cost;
  };
  for (size_t i = 0; i < tiles.size(); ++i) {
    const int32_t item = static_cast<int32_t>(i);
    if (tiles[i] <= 1)
      add({item, 0, tiles[i], -1});
    else
      for (int32_t t = 0; t < tiles[i]; ++t) add({item, t, t + 1, plan.slots++});
  }
  while (plan.first_piece.size() <= static_cast<size_t>(workers))
    plan.first_piece.push_back(static_cast<int32_t>(plan.pieces.size()));
  return plan;
}

}  // namespace kvlab
