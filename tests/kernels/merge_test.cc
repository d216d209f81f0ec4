// Attention states form a monoid: closed forms and its laws.

#include "kernels/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace kvlab {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

struct State {
  float lse = kNone;
  std::vector<float> o{0, 0};
};

State merged(const State& a, const State& b) {
  const MergeNormalised m = MergeNormalised::of(a.lse, b.lse);
  return {m.lse, {m.a * a.o[0] + m.b * b.o[0], m.a * a.o[1] + m.b * b.o[1]}};
}

TEST(Merge, GivesTheClosedForm) {
  const State m = merged({0.0f, {1, 0}}, {std::log(3.0f), {0, 1}});
  EXPECT_FLOAT_EQ(m.o[0], 0.25f);
  EXPECT_FLOAT_EQ(m.o[1], 0.75f);
  EXPECT_FLOAT_EQ(m.lse, std::log(4.0f));
}

TEST(Merge, OfNothingAndNothingIsNothing) {
  const State m = merged({}, {});
  EXPECT_EQ(m.lse, kNone);
  EXPECT_EQ(m.o[0], 0.0f);
  const Merge u = Merge::of(kNone, 0, kNone, 0);
  EXPECT_EQ(u.max, kNone);
  EXPECT_EQ(u.sum, 0.0f);
  EXPECT_EQ(u.a, 0.0f);
  EXPECT_EQ(lse_ln(kNone, 0), kNone);
}

TEST(Merge, LeavesAStateAloneWhenTheOtherIsEmpty) {
  const State s{-3.25f, {0.1f, -7}};
  for (const State& m : {merged(s, {}), merged({}, s)}) {
    EXPECT_EQ(m.lse, s.lse);
    EXPECT_EQ(m.o, s.o);
  }
  const Merge u = Merge::of(-3.25f, 1.5f, kNone, 0);
  EXPECT_EQ(u.sum, 1.5f);
  EXPECT_EQ(u.a, 1.0f);
  EXPECT_EQ(u.b, 0.0f);
}

TEST(Merge, CommutesExactly) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 10);
  for (int i = 0; i < 1000; ++i) {
    const float a = normal(random), b = normal(random);
    const MergeNormalised ab = MergeNormalised::of(a, b), ba = MergeNormalised::of(b, a);
    EXPECT_EQ(ab.lse, ba.lse);
    EXPECT_EQ(ab.a, ba.b);
  }
}

/// Unnormalised states of random sets of logits, merged part by part in random order, against the
/// sums over the whole.  Each merge rounds a few times, relative to sums of positive terms.
TEST(Merge, OfAnyPartitionIsTheWhole) {
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal(0, 20);
  for (int round = 0; round < 300; ++round) {
    const size_t n = 1 + random() % 60, parts = 1 + random() % 8;
    std::vector<double> logit(n), value(n);
    std::vector<float> max(parts, kNone), sum(parts, 0), o(parts, 0);
    std::vector<size_t> part(n);
    for (size_t i = 0; i < n; ++i) {
      logit[i] = std::ldexp(std::round(normal(random) * 64), -6);  // exact in float32
      value[i] = std::ldexp(std::round(normal(random) * 64), -6);
      part[i] = random() % parts;
      max[part[i]] = std::max(max[part[i]], static_cast<float>(logit[i]));
    }
    double all = 0, weighted = 0, size = 0, top = -1e30;
    for (const double x : logit) top = std::max(top, x);
    for (size_t i = 0; i < n; ++i) {
      const double w = std::exp2(logit[i] - top);
      all += w;
      weighted += w * value[i];
      size += w * std::abs(value[i]);
      const double here = std::exp2(logit[i] - max[part[i]]);
      sum[part[i]] += static_cast<float>(here);
      o[part[i]] += static_cast<float>(here * value[i]);
    }
    float m = kNone, s = 0, x = 0;
    for (size_t p = 0; p < parts; ++p) {
      const Merge u = Merge::of(m, s, max[p], sum[p]);
      x = u.a * x + u.b * o[p];
      m = u.max;
      s = u.sum;
    }
    const double bound = static_cast<double>(n + 6 * parts + 4) * std::ldexp(1.0, -24);
    EXPECT_NEAR(s / all, 1, bound) << "round " << round;
    EXPECT_NEAR(x, weighted, bound * size) << "round " << round;
    EXPECT_NEAR(lse_ln(m, s), std::log(2.0) * top + std::log(all), bound + std::abs(m) * 1.2e-7);
  }
}

}  // namespace
}  // namespace kvlab
