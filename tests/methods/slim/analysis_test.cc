// What is computed of a layer's weights: examples worked by hand, laws, and the limits of each.
#include "methods/slim/analysis.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/methods/slim/rows.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

using slim::noise_gain;
using slim::solve;

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }
at::Tensor orthogonal(int64_t n, unsigned seed) {
  return std::get<0>(at::linalg_qr(gaussian(n, n, seed)));
}
/// U diag(sigma) V^T with singular values falling from 1 to 1 / condition.
at::Tensor with_condition(int64_t n, double condition, unsigned seed) {
  at::Tensor left = orthogonal(n, seed);
  for (int64_t i = 0; i < n; ++i)
    left.select(1, i).mul_(
        std::pow(condition, -static_cast<double>(i) / static_cast<double>(n - 1)));
  return at::mm(left, orthogonal(n, seed + 1));
}

TEST(Solve, GivesTheMapOfTheWorkedExample) {
  const at::Tensor key = matrix(4, {1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1}),
                   value = matrix(4, {2, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 3}),
                   map = matrix(4, {1, 0, -1, 1, 0, 1, 0, -3, 1, 0, 1, 0, 0, 0, 0, 3});
  const slim::Solution solution = solve(key, value);
  EXPECT_EQ(largest(solution.map - map), 0);
  EXPECT_EQ(solution.residual, 0);
  EXPECT_EQ(solution.largest, 3);
  EXPECT_EQ(solution.rank, 4);
}

TEST(Solve, HeadsOfTheWorkedExampleFollowTheWeightedSum) {
  const at::Tensor key = matrix(4, {1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1}),
                   value = matrix(4, {2, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 3});
  const at::Tensor x = matrix(2, {1, 2, 3, 4, 0, 1, -1, 2});
  EXPECT_EQ(largest(at::mm(x, key) - matrix(2, {1, 2, 4, 6, 0, 1, -1, 3})), 0);
  EXPECT_EQ(largest(at::mm(x, value) - matrix(2, {5, 2, 3, 13, -1, 1, -1, 6})), 0);
  const at::Tensor map = solve(key, value).map;
  const at::Tensor first = at::mm(matrix(1, {0.5, 1.5, 1.5, 4.5}), map),
                   second = at::mm(matrix(1, {0.75, 1.75, 2.75, 5.25}), map);
  EXPECT_EQ(largest(first.narrow(1, 0, 2) - matrix(1, {2, 1.5})), 0);
  EXPECT_EQ(largest(second.narrow(1, 2, 2) - matrix(1, {2, 11.25})), 0);
}

TEST(Solve, RecoversAMapAtCondition1e9) {
  const at::Tensor key = with_condition(48, 1e9, 11), map = gaussian(48, 48, 12);
  const slim::Solution solution = solve(key, at::mm(key, map));
  EXPECT_NEAR(solution.condition / 1e9, 1, 1e-5);
  // Forward error of a stable solve: about condition * 2^-53 = 1e-7; float32 would give 60.
  EXPECT_LE(apart(solution.map, map), 2e-6) << "seeds 11, 12";
}

TEST(Solve, OfAWideMapIsThePseudoinverse) {
  const int64_t width = 24, e = 40;
  const at::Tensor key = gaussian(width, e, 21), value = gaussian(width, 16, 22);
  const slim::Solution solution = solve(key, value);
  // The four conditions reduce to two for a map K^+ V with K of full row rank: exact, and in the
  // row space of K, so that K's null space contributes nothing.
  EXPECT_LE(apart(at::mm(key, solution.map), value), 1e-13);
  const at::Tensor gram = at::mm(key, key.t());
  const at::Tensor pseudo = at::mm(key.t(), solve(gram, value).map);
  EXPECT_LE(apart(solution.map, pseudo), 1e-12) << "seeds 21, 22";
  EXPECT_EQ(solution.rank, width);
}

TEST(Solve, ReportsWhatLiesOutsideTheSpanOfADeficientMap) {
  const int64_t width = 32, lost = 3;
  at::Tensor key = gaussian(width, width, 31);
  key.narrow(1, 0, lost).zero_();  // dead columns
  const at::Tensor value = gaussian(width, width, 32);
  const slim::Solution solution = solve(key, value);
  EXPECT_EQ(solution.rank, width - lost);
  // Generic values have 3 of 32 directions outside; sampled over 32 columns: +- 25 %.
  EXPECT_NEAR(solution.residual, std::sqrt(3.0 / 32), 0.25 * std::sqrt(3.0 / 32));
  EXPECT_LE(solve(key, at::mm(key, value)).residual, 1e-12) << "inside the span all comes back";
}

TEST(NoiseGain, IsNotTheConditionNumber) {
  const at::Tensor white = identity(2), value = identity(2);
  const at::Tensor diagonal = matrix(2, {1, 0, 0, 1.0 / 64});
  const slim::Solution scaled = solve(diagonal, value);
  EXPECT_DOUBLE_EQ(scaled.condition, 64);
  EXPECT_DOUBLE_EQ(noise_gain(diagonal, scaled.map, value, white), 1);

  const at::Tensor near = matrix(2, {1, 1, 1, 1 + 1.0 / 64});
  const slim::Solution solution = solve(near, value);
  EXPECT_NEAR(solution.condition, 258.01, 0.005);
  EXPECT_NEAR(noise_gain(near, solution.map, value, white), 129.004, 0.0005);
}

TEST(NoiseGain, DoesNotSeeScalesOfColumns) {
  const int64_t n = 24;
  const at::Tensor key = gaussian(n, n, 41), value = gaussian(n, n, 42), half = gaussian(n, n, 43),
                   covariance = at::mm(half, half.t());
  at::Tensor scaled = key.clone();
  for (int64_t j = 0; j < n; ++j) scaled.select(1, j).mul_(std::ldexp(1.0, int(j % 13) - 6));
  EXPECT_NEAR(noise_gain(scaled, solve(scaled, value).map, value, covariance) /
                  noise_gain(key, solve(key, value).map, value, covariance),
              1, 1e-9);
}

/// Relative error of values from rounded rows over c G, c measured on the same values.
struct Law {
  double rows = 0, rows_and_map = 0, gain = 0;
};
Law law_of(Dtype format, const at::Tensor& key, unsigned seed) {
  const int64_t d = key.size(0), n = (1 << 20) / d + 1;  // n d > 1e6 values
  const at::Tensor value = gaussian(d, d, seed, 1 / std::sqrt(double(d)));
  const at::Tensor x = gaussian(n, d, seed + 1), keys = at::mm(x, key), values = at::mm(x, value);
  const at::Tensor map = solve(key, value).map;
  const double c = apart(rounded_to(keys, format), keys);
  const double gain = noise_gain(key, map, value, identity(d));
  const at::Tensor rows = rounded_to(keys, format);
  return {.rows = apart(at::mm(rows, map), values) / (c * gain),
          .rows_and_map = apart(at::mm(rows, rounded_to(map, format)), values) / (c * gain),
          .gain = gain};
}

TEST(NoiseGain, PredictsTheErrorOfValuesFromRoundedRows) {
  for (const Dtype format : {Dtype::bf16, Dtype::f16})
    for (const unsigned seed : {51U, 61U, 71U}) {
      const int64_t d = 128;
      const Law law = law_of(format, gaussian(d, d, seed + 2, 1 / std::sqrt(double(d))), seed);
      const auto where = testing::Message()
                         << name_of(format) << ", seed " << seed << ", G " << law.gain;
      EXPECT_GT(law.gain, 5) << where;
      EXPECT_NEAR(law.rows, 1, 0.1) << where;
      EXPECT_NEAR(law.rows_and_map / std::sqrt(2.0), 1, 0.1) << where;
    }
}

TEST(Completion, IsOrthonormalAndMissesNothing) {
  const at::Tensor a = gaussian(48, 36, 81), rest = slim::completion(a);
  ASSERT_EQ(rest.size(1), 12);
  EXPECT_LE(largest(at::mm(rest.t(), rest) - identity(12)), 1e-13);
  EXPECT_LE(largest(at::mm(a.t(), rest)), 1e-12) << "orthogonal to what it completes";
}

/// Mean gain over draws of the base row of a site with so many numbers of keys that are kept.
double mean_gain(slim::Site site, int64_t keys, unsigned seed) {
  double sum = 0;
  const int64_t d = site.model_width;
  const slim::Inputs inputs{.covariance = identity(d)};
  for (unsigned draw = 0; draw < 4; ++draw) {
    const double unit = 1 / std::sqrt(static_cast<double>(d));
    const slim::Weights weights{.key = gaussian(d, keys, seed + 10 * draw, unit),
                                .value = gaussian(d, keys, seed + 10 * draw + 1, unit)};
    const slim::Base base = slim::base_of(site, weights, inputs);
    EXPECT_LE(base.values.residual, 1e-12);
    EXPECT_LE(base.lost, 1e-12);
    sum += base.gain / 4;
  }
  return sum;
}

TEST(Base, OfFewerKeysThanTheWidthIsWellConditioned) {
  // Gaussian W_K with e = 4 / 7 of D completed: G about 1.3.
  const slim::Site site{.model_width = 224,
                        .num_kv_heads = 4,
                        .head_dim = 32,
                        .value_dim = 32,
                        .rotary = slim::Rotary::full,
                        .rotary_dim = 32};
  EXPECT_NEAR(mean_gain(site, 128, 91), 1.3, 0.13);
}

TEST(Base, OfAPartialRotationKeepsWhatTurnsAndIsWellConditioned) {
  slim::Site site{.model_width = 256,
                  .num_kv_heads = 4,
                  .head_dim = 64,
                  .value_dim = 64,
                  .rotary = slim::Rotary::partial};
  const std::pair<int64_t, double> gains[] = {{16, 1.04}, {32, 1.22}, {48, 1.8}};
  for (const auto& [rotary_dim, gain] : gains) {
    site.rotary_dim = rotary_dim;
    EXPECT_NEAR(mean_gain(site, 256, 101) / gain, 1, 0.1) << rotary_dim << " of 64";
  }
}

TEST(LeastErrorDecoder, StaysBelowFullErrorWhereTheInverseDoesNot) {
  const int64_t d = 96;
  const Dtype format = Dtype::bf16;
  for (const double condition : {1e2, 1e4, 1e7}) {
    const at::Tensor key = with_condition(d, condition, 111), value = gaussian(d, d, 113);
    const at::Tensor covariance = identity(d);
    const at::Tensor x = gaussian(4096, d, 114), values = at::mm(x, value);
    const at::Tensor keys = at::mm(x, key), rows = rounded_to(keys, format);
    const double noise = apart(rows, keys);
    const double inverse = apart(at::mm(rows, solve(key, value).map), values);
    const double least =
        apart(at::mm(rows, slim::least_error_decoder(key, value, covariance, noise)), values);
    EXPECT_LE(least, 1) << condition;
    // The decoder's covariance is the inputs' own, 4096 rows of it are looked at.
    EXPECT_LE(least, inverse * 1.02) << condition;
    if (condition >= 1e4) {
      EXPECT_LE(least, inverse / 2) << condition << ": " << inverse;
    }
  }
}

TEST(LeastErrorDecoder, IsTheInverseWithoutNoise) {
  const at::Tensor key = gaussian(16, 16, 121), value = gaussian(16, 16, 122);
  EXPECT_LE(apart(slim::least_error_decoder(key, value, identity(16), 0), solve(key, value).map),
            1e-7);
}

/// What an error of a row costs: of values, relative to E |v|^2, and of each number by its own
/// size.
at::Tensor cost_of(const at::Tensor& key, const at::Tensor& map, const at::Tensor& value,
                   const at::Tensor& covariance) {
  const auto power = [&](const at::Tensor& column) {
    return at::mm(column.t(), at::mm(covariance, column)).item<double>();
  };
  const int64_t w = key.size(1);
  double size = 0;
  for (int64_t j = 0; j < value.size(1); ++j) size += power(value.narrow(1, j, 1));
  at::Tensor cost = at::mm(map, map.t()) / size;
  for (int64_t j = 0; j < w; ++j)
    cost[j][j] += 1 / (static_cast<double>(w) * power(key.narrow(1, j, 1)));
  return cost;
}

TEST(Shaping, FactorsTheCostOfAnError) {
  const int64_t d = 40;
  const at::Tensor value = gaussian(d, d, 132), half = gaussian(d, d, 133),
                   covariance = at::mm(half, half.t());
  for (const double condition : {1e1, 1e4, 1e8, 1e11}) {
    const at::Tensor key = with_condition(d, condition, 131), map = solve(key, value).map;
    const slim::Shaping shaping = slim::shaping_of(key, map, value, covariance);
    const at::Tensor want = cost_of(key, map, value, covariance),
                     have = at::mm(shaping.lower * shaping.cost.unsqueeze(0), shaping.lower.t());
    for (int64_t j = 0; j < d; ++j) {
      EXPECT_EQ(shaping.lower[j][j].item<double>(), 1);
      for (int64_t i = 0; i < d; ++i) {
        EXPECT_TRUE(i <= j || shaping.lower[j][i].item<double>() == 0);
        // Cholesky's backward error: (d + 1) 2^-53 of the diagonal.
        const double scale = std::sqrt((want[i][i] * want[j][j]).item<double>());
        EXPECT_NEAR(have[i][j].item<double>(), want[i][j].item<double>(), 1e-14 * scale)
            << condition << ": " << i << ", " << j;
      }
    }
  }
}

}  // namespace
}  // namespace kvlab::test
