#include "eval/sampling.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <map>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

int32_t choose_once(const std::vector<float>& logits, const Sampling& sampling, uint64_t seed = 0) {
  SplitMix64 random(seed);
  return choose(logits, sampling, random);
}

/// How often each token comes in `draws` draws of one stream.
std::map<int32_t, int> drawn(const std::vector<float>& logits, const Sampling& sampling,
                             int draws = 20000) {
  SplitMix64 random(42);
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[choose(logits, sampling, random)];
  return counts;
}

TEST(Choose, GreedyTakesTheLargestAndTheLowestOfEquals) {
  EXPECT_EQ(choose_once({0, 3, -1, 3}, {}), 1);
  EXPECT_EQ(choose_once({5}, {}), 0);
  EXPECT_EQ(choose_once({-7, -INFINITY, -6}, {}), 2);
}

TEST(Choose, GreedyDrawsNothing) {
  SplitMix64 random(1);
  choose(std::vector<float>{1, 2}, {}, random);
  EXPECT_EQ(random.next(), SplitMix64(1).next());
}

TEST(Choose, FollowsTheProbabilitiesAtItsTemperature) {
  const std::vector<float> logits{0, 1, 2, -INFINITY, 1};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    double total = 0;
    for (const float x : logits) total += std::exp(x / temperature);
    const std::map<int32_t, int> counts = drawn(logits, {.temperature = temperature});
    for (int32_t token = 0; token < 5; ++token) {
      const double p = std::exp(logits[static_cast<size_t>(token)] / temperature) / total;
      const double sigma = std::sqrt(20000 * p * (1 - p));
      const auto found = counts.find(token);
      EXPECT_NEAR(found == counts.end() ? 0 : found->second, 20000 * p, 4 * sigma) << token;
    }
  }
}

// The first three fractions of stream 42 are 0.7416, 0.1599 and 0.2786.
TEST(Choose, WalksTheTokensInTheOrderOfTheirIds) {
  SplitMix64 random(42);
  const std::vector<float> quarter(4, 0.0f);
  EXPECT_EQ(choose(quarter, {.temperature = 1}, random), 2);
  EXPECT_EQ(choose(quarter, {.temperature = 1}, random), 0);
  EXPECT_EQ(choose(quarter, {.temperature = 1}, random), 1);
}

TEST(Choose, KeepsTheTopKAndTheLowestOfEquals) {
  const std::vector<float> logits{1, 5, 3, 5, 3, 3};
  const auto counts = drawn(logits, {.temperature = 100, .top_k = 3});
  EXPECT_THAT(counts, testing::SizeIs(3));
  EXPECT_TRUE(counts.contains(1) && counts.contains(3) && counts.contains(2));
  EXPECT_EQ(choose_once(logits, {.temperature = 100, .top_k = 1}, 5), 1);
  EXPECT_THAT(drawn(logits, {.temperature = 100, .top_k = 6}), testing::SizeIs(6));
}

TEST(Choose, KeepsTheFewestThatReachTopP) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits{std::log(2.0f), std::log(4.0f), 0, 0};
  EXPECT_THAT(drawn(logits, {.temperature = 1, .top_p = 0.5}), testing::SizeIs(1));
  EXPECT_THAT(drawn(logits, {.temperature = 1, .top_p = 0.51}), testing::SizeIs(2));
  EXPECT_THAT(drawn(logits, {.temperature = 1, .top_p = 0.76}), testing::SizeIs(3));
  EXPECT_THAT(drawn(logits, {.temperature = 1, .top_p = 1e-9}), testing::SizeIs(1));
  const auto counts = drawn(logits, {.temperature = 1, .top_p = 0.7});
  EXPECT_NEAR(counts.at(1), 20000 * 2 / 3.0, 4 * std::sqrt(20000 * 2 / 9.0));
}

TEST(Choose, TakesTopPOfTheTopK) {
  const std::vector<float> logits{std::log(2.0f), std::log(4.0f), 0, 0};
  // Of the two largest the first has 2/3.
  EXPECT_THAT(drawn(logits, {.temperature = 1, .top_k = 2, .top_p = 0.66}), testing::SizeIs(1));
  EXPECT_THAT(drawn(logits, {.temperature = 1, .top_k = 2, .top_p = 0.67}), testing::SizeIs(2));
}

TEST(Choose, LetsNoNumberPassThatIsNone) {
  EXPECT_THAT(error_of([] { choose_once({0, NAN, 1}, {}); }),
              AllOf(StartsWith("E_NONFINITE"), HasSubstr("token 1 is nan")));
  EXPECT_THAT(error_of([] { choose_once({0, INFINITY}, {}); }), StartsWith("E_NONFINITE"));
  EXPECT_THAT(error_of([] { choose_once({-INFINITY, -INFINITY}, {}); }),
              AllOf(StartsWith("E_NONFINITE"), HasSubstr("every one of 2")));
}

TEST(CheckSampling, NamesWhatIsOutOfRange) {
  const auto refusal = [](const Sampling& s) { return error_of([&] { check(s, 10); }); };
  EXPECT_EQ(refusal({}), "no error");
  EXPECT_EQ(refusal({.temperature = 0.7, .top_k = 10, .top_p = 0.9}), "no error");
  EXPECT_THAT(refusal({.temperature = -1}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({.temperature = NAN}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({.temperature = 1, .top_p = 0}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({.temperature = 1, .top_p = 1.01}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({.temperature = 1, .top_k = -1}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({.temperature = 1, .top_k = 11}),
              AllOf(StartsWith("E_BAD_TOPK"), HasSubstr("10 tokens")));
  EXPECT_THAT(refusal({.top_k = 5}), AllOf(StartsWith("E_CONFIG"), HasSubstr("temperature")));
}

}  // namespace
}  // namespace kvlab
