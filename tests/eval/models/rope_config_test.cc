#include "eval/models/rope_config.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numbers>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

RopeSetting setting(const Json& config,
                    RopeRequest request = {.head_dim = 64, .max_positions = 4096}) {
  return rope_setting(Fields(config, "config.json"), request);
}

double plain(double theta, int i, int dim) { return std::pow(theta, -2.0 * i / dim); }

TEST(RopeConfig, WithoutScalingIsThePowersOfTheta) {
  const Rope rope = setting({{"rope_theta", 500000.0}}).rope;
  EXPECT_EQ(rope.style, Rope::Style::half_split);
  EXPECT_EQ(rope.rotary_dim, 64);
  EXPECT_EQ(rope.attention_factor, 1.0);
  ASSERT_EQ(rope.inv_freq.size(), 32u);
  for (int i = 0; i < 32; ++i)
    EXPECT_DOUBLE_EQ(rope.inv_freq[static_cast<size_t>(i)], plain(500000, i, 64));
}

TEST(RopeConfig, MeansTheSameInOldAndNewForms) {
  const Json scaling{{"type", "linear"}, {"factor", 4.0}};
  const Json renamed{{"rope_type", "linear"}, {"factor", 4.0}};
  const Json whole{{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 1e6}};
  const Rope want = setting({{"rope_theta", 1e6}, {"rope_scaling", scaling}}).rope;
  EXPECT_EQ(setting({{"rope_theta", 1e6}, {"rope_scaling", renamed}}).rope, want);
  EXPECT_EQ(setting({{"rope_parameters", whole}}).rope, want);
  EXPECT_EQ(setting({{"rope_theta", 1e6}, {"rope_scaling", nullptr}}).rope,
            setting({{"rope_theta", 1e6}}).rope);
  EXPECT_EQ(setting(Json::object()).rope, setting({{"rope_theta", 10000.0}}).rope);
}

TEST(RopeConfig, LinearDividesEveryFrequency) {
  const Rope rope = setting({{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}}).rope;
  for (int i = 0; i < 32; ++i)
    EXPECT_DOUBLE_EQ(rope.inv_freq[static_cast<size_t>(i)], plain(10000, i, 64) / 4);
}

TEST(RopeConfig, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  const double factor = 8, low = 1, high = 4, length = 512;
  const Rope rope = setting({{"rope_scaling",
                              {{"rope_type", "llama3"},
                               {"factor", factor},
                               {"low_freq_factor", low},
                               {"high_freq_factor", high},
                               {"original_max_position_embeddings", length}}}})
                        .rope;
  int kept = 0, stretched = 0, blended = 0;
  for (int i = 0; i < 32; ++i) {
    const double f = plain(10000, i, 64), wavelength = 2 * std::numbers::pi / f;
    const double got = rope.inv_freq[static_cast<size_t>(i)];
    if (wavelength < length / high) {
      EXPECT_DOUBLE_EQ(got, f) << i;
      ++kept;
    } else if (wavelength > length / low) {
      EXPECT_DOUBLE_EQ(got, f / factor) << i;
      ++stretched;
    } else {
      const double smooth = (length / wavelength - low) / (high - low);
      EXPECT_DOUBLE_EQ(got, (1 - smooth) * f / factor + smooth * f) << i;
      ++blended;
    }
  }
  EXPECT_GT(std::min({kept, stretched, blended}), 0);
}

TEST(RopeConfig, YarnRampsOverThePairsAndGrowsTheLogits) {
  const double factor = 4, length = 1024;
  const Json scaling{
      {"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", length}};
  const RopeSetting got = setting({{"rope_scaling", scaling}});
  EXPECT_DOUBLE_EQ(got.rope.attention_factor, 0.1 * std::log(4.0) + 1);
  const auto pair = [&](double turns) {
    return 64 * std::log(length / (turns * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
  };
  const double low = std::floor(pair(32)), high = std::ceil(pair(1));
  ASSERT_GT(high, low + 2);
  for (int i = 0; i < 32; ++i) {
    const double f = plain(10000, i, 64);
    const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
    EXPECT_NEAR(got.rope.inv_freq[static_cast<size_t>(i)], f / factor * ramp + f * (1 - ramp),
                1e-15)
        << i;
  }
}

TEST(RopeConfig, YarnTakesItsAttentionFactorFromTheConfigWhereItIsGiven) {
  const auto factor_of = [](Json scaling) {
    scaling["rope_type"] = "yarn";
    scaling["factor"] = 40.0;
    return setting({{"rope_scaling", scaling}}).rope.attention_factor;
  };
  EXPECT_DOUBLE_EQ(factor_of({{"attention_factor", 1.3}}), 1.3);
  EXPECT_DOUBLE_EQ(factor_of({{"mscale", 0.707}, {"mscale_all_dim", 0.5}}),
                   (0.0707 * std::log(40.0) + 1) / (0.05 * std::log(40.0) + 1));
  EXPECT_DOUBLE_EQ(factor_of({{"mscale", 0.707}}), 0.1 * std::log(40.0) + 1);
}

const Json kLongRope{{"original_max_position_embeddings", 1024},
                     {"rope_scaling",
                      {{"type", "longrope"},
                       {"short_factor", {1.0, 1.5, 2.0, 2.5}},
                       {"long_factor", {4.0, 5.0, 6.0, 7.0}}}}};

TEST(RopeConfig, LongRopeUsesOneOfItsTwoSetsAndSaysHowFarItReaches) {
  const RopeRequest request{.head_dim = 8, .max_positions = 8192};
  const RopeSetting near = setting(kLongRope, request);
  RopeRequest beyond = request;
  beyond.longrope = LongRope::for_long;
  const RopeSetting far = setting(kLongRope, beyond);
  EXPECT_EQ(near.positions, 1024);
  EXPECT_EQ(far.positions, -1);
  for (int i = 0; i < 4; ++i) {
    const size_t at = static_cast<size_t>(i);
    EXPECT_DOUBLE_EQ(near.rope.inv_freq[at], plain(10000, i, 8) / (1 + 0.5 * i));
    EXPECT_DOUBLE_EQ(far.rope.inv_freq[at], plain(10000, i, 8) / (4 + i));
  }
  const double factor = std::sqrt(1 + std::log(8.0) / std::log(1024.0));
  EXPECT_DOUBLE_EQ(near.rope.attention_factor, factor);
  EXPECT_DOUBLE_EQ(far.rope.attention_factor, factor);
}

TEST(RopeConfig, RotatesAPartOfAHeadWhereTheArchitectureDoes) {
  const RopeRequest request{.head_dim = 64, .max_positions = 64, .partial = true};
  EXPECT_EQ(setting({{"partial_rotary_factor", 0.75}}, request).rope.rotary_dim, 48);
  EXPECT_THAT(error_of([] { setting({{"partial_rotary_factor", 0.75}}); }),
              AllOf(StartsWith("E_UNSUPPORTED"), HasSubstr("rotates whole heads")));
}

TEST(RopeConfig, RefusesWhatItDoesNotCompute) {
  const auto expect = [](const Json& config, const char* start, const char* part) {
    EXPECT_THAT(error_of([&] { setting(config); }), AllOf(StartsWith(start), HasSubstr(part)))
        << config;
  };
  const auto scaled = [](const Json& scaling) { return Json{{"rope_scaling", scaling}}; };
  expect(
      scaled({{"type", "dynamic"}, {"factor", 2.0}}), "E_UNSUPPORTED",
      "rope type `dynamic` is not supported; supported: default, linear, llama3, yarn, longrope");
  expect(scaled({{"type", "mrope"}}), "E_UNSUPPORTED", "`mrope`");
  expect({{"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}}}, "E_UNSUPPORTED",
         "`full_attention`");
  expect(scaled({{"type", "linear"}}), "E_FORMAT", "has no `factor`");
  expect(scaled({{"type", "linear"}, {"factor", 0}}), "E_FORMAT", "`factor` is 0");
  expect(scaled({{"type", "linear"}, {"factor", 1e-310}}), "E_FORMAT", "not finite");
  expect(scaled({{"type", 3}}), "E_FORMAT", "`type` is 3");
  expect(scaled("linear"), "E_FORMAT", "must be an object");
  expect({{"rope_theta", -5}}, "E_FORMAT", "`rope_theta` is -5");
  expect({{"rope_theta", "x"}}, "E_FORMAT", "must be a finite number");
  expect(
      scaled({{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
      "E_FORMAT", "`high_freq_factor`");
  expect(scaled({{"type", "longrope"}, {"short_factor", {1, 2}}}), "E_FORMAT",
         "must be a list of 32 finite numbers");
}

}  // namespace
}  // namespace kvlab
