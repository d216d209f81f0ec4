// StreamingLLM against its definition: which rows a query reads, and from where it sees the sinks.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/network.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

// Float32 rows of 8 and a softmax over at most 40 of them against double.
constexpr double kBound = 1e-5;

struct Case {
  int64_t sink = 0, recent = 1;
};

class Window : public testing::TestWithParam<Case> {
 protected:
  Window() { register_all(registry_); }
  Json method(bool reindexed) const {
    return {{"name", "window"},
            {"params",
             {{"sink", GetParam().sink},
              {"recent", GetParam().recent},
              {"positions", reindexed ? "reindexed" : "original"}}}};
  }
  Definition definition(bool reindexed) const {
    const auto [sink, recent] = GetParam();
    Definition definition;
    definition.reads = [=](int, int, int64_t q, int64_t j) { return j < sink || j > q - recent; };
    if (reindexed)
      definition.seen_from = [=](int64_t q, int64_t j) {
        return j < sink ? std::min(q, sink + recent - 1) : q;
      };
    return definition;
  }
  void expect_definition(bool reindexed, const std::vector<int64_t>& lengths) const {
    const Network network({.tokens = 40});
    EXPECT_LE(distance(run(network, registry_, method(reindexed), lengths),
                       defined(network, definition(reindexed))),
              kBound)
        << lengths.size() << " passes, reindexed " << reindexed;
  }

  Registry registry_{};
};

TEST_P(Window, ReadsSinksAndTheNewestRows) {
  expect_definition(false, {40});
  expect_definition(false, std::vector<int64_t>(40, 1));
  expect_definition(false, {13, 1, 20, 6});
}

TEST_P(Window, ReindexedSinksStandAtTheEdgeOfTheWindow) {
  expect_definition(true, {40});
  expect_definition(true, std::vector<int64_t>(40, 1));
  expect_definition(true, {13, 1, 20, 6});
}

TEST_P(Window, HoldsNoMoreThanItReads) {
  const Network network({.layers = 1, .tokens = 40});
  for (const bool reindexed : {false, true}) {
    const std::unique_ptr<Cache> cache = make_cache(network, registry_, method(reindexed));
    const SeqId sequence = cache->add_sequence();
    Outputs out;
    for (int64_t q = 0; q < 40; ++q) {
      network.pass(*cache, sequence, {q, q + 1}, ReadPolicy::masked, ChunkEnd::step, out);
      // The row that leaves the window before the next query is gone with this pass.
      std::vector<int32_t> want;
      for (int32_t j = 0; j <= q; ++j)
        if (j < GetParam().sink || j > q + 1 - GetParam().recent) want.push_back(j);
      EXPECT_EQ(cache->positions(0, sequence, 0), want) << "after position " << q;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Window,
                         testing::Values(Case{0, 1}, Case{0, 5}, Case{4, 1}, Case{4, 8},
                                         Case{3, 29}, Case{4, 100}));

TEST(WindowParams, RefusesTheReadPolicyInWhichRowsWouldExpireInsideAPass) {
  Registry registry;
  register_all(registry);
  const Network network({});
  EXPECT_REFUSED("E_READ_POLICY", "window cannot be read as `stored`",
                 run(network, registry, "window", {24}, ReadPolicy::stored));
}

}  // namespace
}  // namespace kvlab::test
