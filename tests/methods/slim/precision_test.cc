// Which numbers of a step may be rounded: probabilities and rows, but neither the weighted sum of
// rows nor the map behind it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/methods/slim/rows.h"

namespace kvlab::test {
namespace {

constexpr int64_t kWidth = 192, kSeen = 2048, kQueries = 96;

/// One head's attention over all d numbers of a row, everything in double.
struct DecodeStep {
  at::Tensor keys{}, values{}, map{}, probs{}, want{};
  double gain = 0;

  explicit DecodeStep(unsigned seed) {
    // W_K with singular values that fall to 1 / 1000: a gain of about 1000 / (2 ln 1000).
    at::Tensor key = std::get<0>(at::linalg_qr(gaussian(kWidth, kWidth, seed)));
    for (int64_t i = 0; i < kWidth; ++i)
      key.select(1, i).mul_(std::pow(1000.0, -static_cast<double>(i) / (kWidth - 1)));
    key = at::mm(key, std::get<0>(at::linalg_qr(gaussian(kWidth, kWidth, seed + 1))));
    const at::Tensor value = gaussian(kWidth, kWidth, seed + 2);
    // Rows have something in common, so that their weighted sum does not vanish as their errors do.
    const at::Tensor x = gaussian(kSeen, kWidth, seed + 3) + gaussian(1, kWidth, seed + 5);
    keys = at::mm(x, key);
    values = at::mm(x, value);
    map = slim::solve(key, value).map;
    gain = slim::noise_gain(key, map, value, at::mm(x.t(), x) / double{kSeen});
    probs = at::softmax(gaussian(kQueries, kSeen, seed + 4), 1);
    want = at::mm(probs, values);
  }
  double error(const at::Tensor& have) const { return apart(have, want); }
};

at::Tensor round(const at::Tensor& x) { return rounded_to(x, Dtype::bf16); }
/// x as two bfloat16 numbers.
at::Tensor round_twice(const at::Tensor& x) {
  const at::Tensor high = round(x);
  return high + round(x - high);
}

TEST(Precision, ProbabilitiesMayBeRoundedAsInADenseCache) {
  for (const unsigned seed : {501U, 511U}) {
    const DecodeStep s(seed);
    const double dense = s.error(at::mm(round(s.probs), s.values)),
                 slim = s.error(at::mm(at::mm(round(s.probs), s.keys), s.map));
    EXPECT_NEAR(slim / dense, 1, 0.1) << "seed " << seed << ": not multiplied by G = " << s.gain;
  }
}

TEST(Precision, TheWeightedSumAndTheMapMayNotBeRounded) {
  for (const unsigned seed : {501U, 511U}) {
    const DecodeStep s(seed);
    ASSERT_GT(s.gain, 50) << seed;
    const at::Tensor sum = at::mm(s.probs, s.keys);
    const double rows = s.error(at::mm(at::mm(s.probs, round(s.keys)), s.map)),
                 of_sum = s.error(at::mm(round(sum), s.map)),
                 of_map = s.error(at::mm(sum, round(s.map)));
    EXPECT_GT(of_sum, 3 * rows) << "seed " << seed;
    EXPECT_GT(of_map, 3 * rows) << "seed " << seed;
    // Two numbers of 8 bits each are enough for the map.
    EXPECT_LT(s.error(at::mm(sum, round_twice(s.map))), rows / 3) << "seed " << seed;
  }
}

TEST(Precision, RoundedRowsCostTheGainOfTheirValues) {
  const DecodeStep s(501);
  const double c = apart(round(s.keys), s.keys);
  EXPECT_NEAR(apart(at::mm(round(s.keys), s.map), s.values) / (c * s.gain), 1, 0.1);
}

}  // namespace
}  // namespace kvlab::test
