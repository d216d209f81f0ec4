#include "eval/statistics.h"

#include <gmock/gmock.h>

#include <cmath>

#include "eval/random.h"

namespace kvlab {
namespace {

std::vector<Share> scores(std::initializer_list<double> values) {
  std::vector<Share> shares;
  for (const double value : values) shares.push_back({value, 1});
  return shares;
}

TEST(SeIid, IsLlamaCppsFormula) {
  const std::vector<double> nll{1, 2, 3, 4};
  EXPECT_NEAR(se_iid(nll), 0.645497, 5e-7);
  EXPECT_NEAR(std::exp(2.5) * se_iid(nll), 7.863766, 5e-7);
}

TEST(SeIid, KeepsItsDigitsFarFromZero) {  // mean(x^2) - mean(x)^2 would lose all of them
  const std::vector<double> shifted{1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9 + 4};
  EXPECT_NEAR(se_iid(shifted), 0.645497, 5e-7);
}

TEST(Bootstrap, GivesTheSpecifiedIntervals) {
  const Interval of_scores = bootstrap(scores({1, 0, 1, 1, 0, 1, 0, 1}), {1000, 12345, 0.05});
  EXPECT_DOUBLE_EQ(of_scores.low, 0.25);
  EXPECT_DOUBLE_EQ(of_scores.high, 0.875);
  EXPECT_NEAR(of_scores.se, 0.1665916, 5e-8);

  const Interval of_values = bootstrap(scores({1, 2, 3, 4, 10}), {1000, 1, 0.05});
  EXPECT_DOUBLE_EQ(of_values.low, 1.6);
  EXPECT_DOUBLE_EQ(of_values.high, 7.0);
  EXPECT_NEAR(of_values.se, 1.3994798, 5e-8);
}

TEST(Bootstrap, OfADifferencePairsTheUnits) {
  const auto dense = scores({1, 1, 1, 1, 1, 1, 1, 1}), method = scores({1, 1, 0, 1, 1, 1, 1, 0});
  const Interval difference = bootstrap_difference(method, dense, {1000, 12345, 0.05}).interval;
  EXPECT_DOUBLE_EQ(difference.low, -0.5);
  EXPECT_DOUBLE_EQ(difference.high, 0.0);
  EXPECT_NEAR(difference.se, 0.1440598, 5e-8);
}

TEST(Bootstrap, UnitsWithoutWeightAreNoEvidence) {
  const std::vector<Share> a(8, {0, 0}), b(8, {0, 0});
  EXPECT_DOUBLE_EQ(bootstrap_difference(a, b, {100, 1, 0.05}).p, 1);
}

/// Values whose mean is 0.
std::vector<Share> skewed_sample(SplitMix64& random, int count) {
  std::vector<Share> shares;
  for (int i = 0; i < count; ++i) shares.push_back({-std::log(1 - random.u01()) - 1, 1});
  return shares;
}

TEST(Bootstrap, NineteenOfTwentyIntervalsHoldTheTruth) {
  SplitMix64 random(2024);
  int held = 0;
  constexpr int kTrials = 4000;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto shares = skewed_sample(random, 200);
    const Interval interval =
        bootstrap(shares, {.resamples = 500, .seed = static_cast<uint64_t>(trial)});
    held += interval.low <= 0 && 0 <= interval.high;
  }
  EXPECT_NEAR(held / double{kTrials}, 0.95, 0.02);
}

TEST(Bootstrap, FindsADifferenceThatIsNotThereOnceInTwentyTimes) {
  SplitMix64 random(7);
  int found = 0;
  constexpr int kTrials = 4000;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto a = skewed_sample(random, 200), b = skewed_sample(random, 200);
    const Bootstrap options{.resamples = 500, .seed = static_cast<uint64_t>(trial)};
    found += bootstrap_difference(a, b, options).p < 0.05;
  }
  EXPECT_NEAR(found / double{kTrials}, 0.05, 0.02);
}

TEST(Bootstrap, PIsSmallOnlyWhereUnitsCanTell) {
  const auto p_of = [](const std::vector<Share>& a, const std::vector<Share>& b) {
    return bootstrap_difference(a, b, {2000, 1, 0.05}).p;
  };
  EXPECT_DOUBLE_EQ(p_of(scores({1, 2, 3}), scores({1, 2, 3})), 1);
  EXPECT_DOUBLE_EQ(p_of(scores({2, 3}), scores({1, 2})), 0.5) << "two coins";
  EXPECT_DOUBLE_EQ(p_of(scores({2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
                        scores({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})),
                   2.0 / 2001);
}

TEST(Bootstrap, OfWeightedUnitsWithOneRatioIsThatRatio) {
  const std::vector<Share> shares{{2, 1}, {20, 10}, {200, 100}};
  EXPECT_DOUBLE_EQ(pooled(shares), 2);
  const Interval interval = bootstrap(shares, {100, 7, 0.05}, [](double x) { return std::exp(x); });
  EXPECT_DOUBLE_EQ(interval.low, std::exp(2));
  EXPECT_DOUBLE_EQ(interval.high, std::exp(2));
  EXPECT_NEAR(interval.se, 0, 1e-13);  // rounding of a mean of 100 equal numbers
}

TEST(Wilson, GivesTheSpecifiedIntervals) {
  EXPECT_NEAR(wilson(450, 500).first, 0.8705781, 5e-8);
  EXPECT_NEAR(wilson(450, 500).second, 0.9233224, 5e-8);
  EXPECT_NEAR(wilson(8, 8).first, 0.6755924, 5e-8);
  EXPECT_DOUBLE_EQ(wilson(8, 8).second, 1.0);
}

TEST(Wilson, EndsExactlyWhereAllOrNoneAgree) {
  for (int64_t n = 1; n <= 300; ++n) {
    EXPECT_EQ(wilson(0, n).first, 0.0) << n;
    EXPECT_EQ(wilson(n, n).second, 1.0) << n;
    EXPECT_GT(wilson(1, n).first, 0.0) << n;
    EXPECT_LT(wilson(n - 1, n).second, 1.0) << n;
  }
}

TEST(McNemar, GivesTheSpecifiedProbabilities) {
  EXPECT_DOUBLE_EQ(mcnemar(2, 0), 0.5);
  EXPECT_NEAR(mcnemar(10, 2), 0.0385742, 5e-8);
  EXPECT_NEAR(mcnemar(30, 12), 0.0079159, 5e-8);
  EXPECT_DOUBLE_EQ(mcnemar(0, 0), 1.0);
  EXPECT_DOUBLE_EQ(mcnemar(5, 5), 1.0);
}

TEST(Holm, CorrectsAFamily) {
  using testing::DoubleEq;
  using testing::ElementsAre;
  EXPECT_THAT(holm(std::vector{0.01, 0.04, 0.03}),
              ElementsAre(DoubleEq(0.03), DoubleEq(0.06), DoubleEq(0.06)));
  EXPECT_THAT(holm(std::vector{0.9, 0.6}), ElementsAre(DoubleEq(1), DoubleEq(1)));
  EXPECT_THAT(holm(std::vector{0.02}), ElementsAre(DoubleEq(0.02)));
  EXPECT_THAT(holm({}), testing::IsEmpty());
}

}  // namespace
}  // namespace kvlab
