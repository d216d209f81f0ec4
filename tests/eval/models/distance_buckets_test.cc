#include "eval/models/distance_buckets.h"

#include <ATen/ops/arange.h>
#include <gmock/gmock.h>

#include <cmath>
#include <vector>

namespace kvlab {
namespace {

constexpr int kCount = 16, kMost = 60;

/// Which bucket each distance falls into: weights that are their own numbers.
std::vector<int> buckets(bool both_ways, int64_t first, int64_t n) {
  const at::Tensor weights = at::arange(kCount, at::kFloat).unsqueeze(1);
  const at::Tensor bias = bias_by_distance(
      weights, {.count = kCount, .max_distance = kMost, .both_ways = both_ways}, first, n);
  const float* const values = bias.const_data_ptr<float>();
  return {values, values + n};
}

TEST(DistanceBuckets, OfADecoderGrowWithTheDistanceBehind) {
  const std::vector<int> all = buckets(false, -100, 104);  // key - query: -100 ... 3
  for (int d = 0; d <= 100; ++d) {
    const int bucket = all[static_cast<size_t>(100 - d)];
    if (d < kCount / 2) {
      EXPECT_EQ(bucket, d);
    } else {
      const double exact = 8 + std::log(d / 8.0) / std::log(kMost / 8.0) * 8;
      EXPECT_NEAR(bucket, std::min(exact, 15.0), 1) << d;
      EXPECT_LE(bucket, std::min(exact + 1e-4, 15.0)) << d;
    }
    if (d >= kMost) {
      EXPECT_EQ(bucket, kCount - 1);
    }
  }
  for (size_t ahead = 101; ahead < 104; ++ahead) EXPECT_EQ(all[ahead], 0);
}

TEST(DistanceBuckets, OfAnEncoderAreTheSameBothWays) {
  const std::vector<int> all = buckets(true, -99, 199);
  for (size_t d = 1; d < 100; ++d) {
    EXPECT_EQ(all[99 + d], all[99 - d] + kCount / 2) << d;
    if (d < kCount / 4) {
      EXPECT_EQ(all[99 - d], static_cast<int>(d));
    }
  }
  EXPECT_EQ(all[99], 0);
}

TEST(DistanceBuckets, EachHeadHasARow) {
  const at::Tensor weights = at::arange(8, at::kFloat).view({4, 2});  // bucket b: 2 b, 2 b + 1
  const at::Tensor bias = bias_by_distance(weights, {.count = 4, .max_distance = 9}, -1, 2);
  ASSERT_TRUE(bias.is_contiguous());
  const float* const values = bias.const_data_ptr<float>();
  EXPECT_THAT(std::vector(values, values + 4), testing::ElementsAre(2, 0, 3, 1));
}

}  // namespace
}  // namespace kvlab
