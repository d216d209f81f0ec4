// Random lives of random caches, each step compared with the oracle.

#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "core/error.h"
#include "tests/core/cache/world.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

World::PassPlan random_pass(World& world, std::mt19937& random) {
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<unsigned>(n));
  };
  World::PassPlan plan;
  for (size_t i = 0; i < world.live().size(); ++i)
    if (below(3) > 0) plan.which.push_back(i);
  if (plan.which.empty())
    plan.which.push_back(static_cast<size_t>(below(std::ssize(world.live()))));
  std::ranges::shuffle(plan.which, random);
  const bool is_step = below(3) == 0;
  for (size_t i = 0; i < plan.which.size(); ++i)
    plan.lengths.push_back(is_step ? 1 : 1 + below(below(3) == 0 ? 20 : 6));
  plan.read = static_cast<ReadPolicy>(below(3));
  if (plan.read == ReadPolicy::stored && !world.may_read_stored(plan))
    plan.read = ReadPolicy::masked;
  plan.end = is_step ? ChunkEnd::step : below(2) == 0 ? ChunkEnd::chunk : ChunkEnd::prompt;
  if (below(6) == 0) plan.cancel_before = static_cast<int>(below(world.num_layers() + 1));
  return plan;
}

class RandomLives : public testing::TestWithParam<unsigned> {};

TEST_P(RandomLives, AgreeWithTheOracleAtEveryStep) {
  const Scratch scratch;
  const unsigned first = GetParam() * 20;
  for (unsigned seed = first; seed < first + 20; ++seed) {
    std::mt19937 random(seed);
    const WorldConfig config = random_config(random);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << config.text());
    World world(config, seed);
    const auto below = [&](int64_t n) {
      return static_cast<int64_t>(random() % static_cast<unsigned>(n));
    };
    world.add();
    if (world.live().empty()) continue;  // not even that fits
    std::ostringstream history;
    for (int step = 0; step < 25; ++step) {
      const int64_t what = below(14);
      const auto one = static_cast<size_t>(below(std::ssize(world.live())));
      if (what == 0 && world.live().size() < 4) {
        history << "add; ";
        world.add();
      } else if (what == 1 && world.live().size() < 4) {
        history << "fork " << one << "; ";
        world.fork(one);
      } else if (what == 2 && world.live().size() > 1) {
        history << "drop " << one << "; ";
        world.drop(one);
      } else if (what == 3) {
        const int64_t n = std::max<int64_t>(world.live()[one].seen - below(8), 0);
        history << "truncate " << one << " to " << n << "; ";
        world.truncate(one, n);
      } else if (what == 4) {
        history << "reload " << one << "; ";
        ASSERT_NO_THROW(world.reload(one, scratch / "sequence")) << history.str();
      } else if (what == 5) {
        history << "transplant " << one << "; ";
        ASSERT_NO_THROW(world.transplant(one)) << history.str();
      } else {
        const World::PassPlan plan = random_pass(world, random);
        history << plan.text() << "; ";
        ASSERT_NO_THROW(world.pass(plan)) << history.str();
      }
      world.check_state();
      ASSERT_FALSE(testing::Test::HasFailure()) << history.str();
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomLives, testing::Range(0u, 25u));

}  // namespace
}  // namespace kvlab::test
