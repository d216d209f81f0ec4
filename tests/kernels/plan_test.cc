// The planner's theorem, as properties of random cases, and the worked examples.

#include "kernels/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace kvlab {
namespace {

using Tiles = std::vector<int32_t>;

struct Case {
  Tiles tiles{};
  int start_cost = 1, workers = 1;
};

Case random_case(std::mt19937_64& random) {
  const auto up_to = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Case c{.start_cost = 1 + up_to(4), .workers = 1 + up_to(12)};
  c.tiles.resize(static_cast<size_t>(up_to(20)));
  const int longest = 1 + up_to(2) * 100 + up_to(10);
  for (int32_t& n : c.tiles) n = up_to(3) == 0 ? 0 : up_to(longest);
  return c;
}

int64_t cost_of(const WorkPlan& plan, int worker, int start_cost) {
  int64_t cost = 0;
  for (const Piece& piece : plan.of(worker))
    cost += piece.last_tile - piece.first_tile + start_cost;
  return cost;
}

/// Every tile of every item once, in ascending order; items without tiles once.
void expect_covers(const WorkPlan& plan, const Tiles& tiles) {
  std::vector<int32_t> next(tiles.size(), 0), pieces(tiles.size(), 0);
  for (const Piece& piece : plan.pieces) {
    const size_t item = static_cast<size_t>(piece.item);
    EXPECT_EQ(piece.first_tile, next[item]);
    next[item] = piece.last_tile;
    ++pieces[item];
  }
  EXPECT_EQ(next, tiles);
  for (size_t i = 0; i < tiles.size(); ++i) {
    EXPECT_GE(pieces[i], 1) << "item " << i;
    if (tiles[i] == 0) {
      EXPECT_EQ(pieces[i], 1);
    }
  }
}

/// Whole items need no slot; parts have one each.
void expect_slots(const WorkPlan& plan, const Tiles& tiles) {
  std::vector<int> used(static_cast<size_t>(plan.slots), 0);
  for (const Piece& piece : plan.pieces) {
    const bool whole = piece.last_tile - piece.first_tile == tiles[static_cast<size_t>(piece.item)];
    EXPECT_EQ(piece.slot < 0, whole);
    if (piece.slot < 0) continue;
    ASSERT_LT(piece.slot, plan.slots);
    EXPECT_EQ(used[static_cast<size_t>(piece.slot)]++, 0);
  }
}

TEST(PlanFlat, CutsTheWorkedExamples) {
  const WorkPlan a = plan_flat(Tiles{5, 0, 3, 8}, 1, 3);
  EXPECT_EQ(a.pieces,
            (std::vector<Piece>{
                {0, 0, 5, -1}, {1, 0, 0, -1}, {2, 0, 3, -1}, {3, 0, 2, 3}, {3, 2, 8, 4}}));
  EXPECT_EQ(a.first_piece, (std::vector<int32_t>{0, 2, 4, 5}));
  const WorkPlan b = plan_flat(Tiles{10}, 1, 4);
  EXPECT_EQ(b.pieces,
            (std::vector<Piece>{{0, 0, 2, 1}, {0, 2, 5, 2}, {0, 5, 8, 4}, {0, 8, 10, 6}}));
}

TEST(PlanFlat, HoldsItsTheoremOnRandomCases) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    SCOPED_TRACE(i);
    const Case c = random_case(random);
    const WorkPlan plan = plan_flat(c.tiles, c.start_cost, c.workers);
    const int64_t items = std::ssize(c.tiles);
    ASSERT_EQ(std::ssize(plan.first_piece), c.workers + 1);
    expect_covers(plan, c.tiles);
    expect_slots(plan, c.tiles);
    const int64_t weight =
        std::accumulate(c.tiles.begin(), c.tiles.end(), int64_t{0}) + items * c.start_cost;
    const int64_t quota = (weight + c.workers - 1) / c.workers;
    for (int w = 0; w < c.workers; ++w)
      EXPECT_LE(cost_of(plan, w, c.start_cost), quota + c.start_cost);
    EXPECT_LE(std::ssize(plan.pieces), items + c.workers - 1);
    EXPECT_LE(std::ranges::count_if(plan.pieces, [](const Piece& p) { return p.slot >= 0; }),
              2 * (c.workers - 1));
    if (testing::Test::HasFailure()) return;
  }
}

TEST(PlanFixed, CutsAnItemTheSameWayWhateverElseThereIs) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    SCOPED_TRACE(i);
    const Case c = random_case(random);
    const WorkPlan plan = plan_fixed(c.tiles, c.start_cost, c.workers);
    ASSERT_EQ(std::ssize(plan.first_piece), c.workers + 1);
    ASSERT_EQ(plan.first_piece.back(), std::ssize(plan.pieces));
    expect_covers(plan, c.tiles);
    expect_slots(plan, c.tiles);
    for (const Piece& piece : plan.pieces) EXPECT_LE(piece.last_tile - piece.first_tile, 1);
    int64_t most = 0, total = 0;
    for (int w = 0; w < c.workers; ++w) {
      most = std::max(most, std::ssize(plan.of(w)));
      total += std::ssize(plan.of(w));
    }
    EXPECT_LE(most, (total + c.workers - 1) / c.workers + 1);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace kvlab
