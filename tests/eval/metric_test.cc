#include "eval/metric.h"

#include <gmock/gmock.h>

#include <cmath>

#include "eval/catalogue.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

Outcome scored(std::vector<double> nll, std::vector<int32_t> predicted = {}) {
  Outcome sample{.nll = std::move(nll)};
  sample.labels.assign(sample.nll.size(), 1);
  sample.predicted = predicted.empty() ? sample.labels : std::move(predicted);
  sample.recall.assign(sample.nll.size(), 0);
  return sample;
}

CellOutcome cell(std::vector<Outcome> samples) { return {.samples = std::move(samples)}; }

std::optional<Estimate> of(const std::string& name, const CellOutcome& method,
                           const CellOutcome& dense, bool is_dense = false) {
  return estimate(catalogue().metric(name), method, dense, is_dense, {.resamples = 200});
}
double value(const std::string& name, const CellOutcome& method, const CellOutcome& dense) {
  return of(name, method, dense)->value;
}

TEST(PerplexityMetric, IsTheExponentialOfTheMeanOverTokens) {
  const CellOutcome four = cell({scored({1, 2, 3, 4})});
  EXPECT_DOUBLE_EQ(value("nll", four, four), 2.5);
  EXPECT_NEAR(value("ppl", four, four), 12.182494, 5e-7);
  EXPECT_NEAR(value("se_iid", four, four), 0.645497, 5e-7);
}

TEST(PerplexityMetric, WeighsTokensNotSamples) {
  const CellOutcome uneven = cell({scored({1}), scored({4, 4, 4})});
  EXPECT_DOUBLE_EQ(value("nll", uneven, uneven), 13.0 / 4);
}

TEST(DeltaNll, PairsTokenWithToken) {
  const CellOutcome dense = cell({scored({1, 2}), scored({3, 4})});
  const CellOutcome method = cell({scored({1.5, 2}), scored({3, 5})});
  EXPECT_DOUBLE_EQ(value("delta_nll", method, dense), 1.5 / 4);
  EXPECT_DOUBLE_EQ(value("ppl_ratio", method, dense), std::exp(1.5 / 4));
  EXPECT_DOUBLE_EQ(value("delta_nll", dense, dense), 0);
}

TEST(DeltaNll, SplitsByRecallAndByQuarter) {
  CellOutcome dense = cell({scored({0, 0, 0, 0})});
  CellOutcome method = cell({scored({1, 2, 3, 4})});
  method.samples[0].recall = {0, 1, 0, 0};
  EXPECT_DOUBLE_EQ(value("delta_nll_recall", method, dense), 2);
  EXPECT_DOUBLE_EQ(value("delta_nll_other", method, dense), 8.0 / 3);
  EXPECT_DOUBLE_EQ(value("delta_nll_q1", method, dense), 1);
  EXPECT_DOUBLE_EQ(value("delta_nll_q4", method, dense), 4);
}

TEST(NoiseFloor, IsWhatFeedingAloneChanges) {
  CellOutcome dense = cell({scored({1, 2})});
  EXPECT_FALSE(of("noise_floor", dense, dense));  // nobody ran it in one pass
  dense.samples[0].one_pass_nll = {1.25, 2.25};
  EXPECT_DOUBLE_EQ(value("noise_floor", dense, dense), 0.25);
}

TEST(Estimate, LeavesOutSamplesWhereEitherRunMetNaN) {
  CellOutcome dense = cell({scored({1}), scored({2}), scored({3})});
  CellOutcome method = cell({scored({10}), scored({20}), scored({30})});
  dense.samples[0].is_nan = true;
  method.samples[2].is_nan = true;
  EXPECT_EQ(method.nan_samples(), 1);
  EXPECT_DOUBLE_EQ(value("nll", method, dense), 20);
  EXPECT_DOUBLE_EQ(*of("nll", method, dense)->dense, 2);
}

TEST(Estimate, ComparesOnlyOthersWithDense) {
  const CellOutcome dense = cell({scored({1}), scored({2})});
  const Estimate of_dense = *of("nll", dense, dense, true);
  EXPECT_FALSE(of_dense.delta);
  EXPECT_TRUE(of("nll", dense, dense)->delta_interval);
}

TEST(Estimate, OneUnitTellsNothing) {
  const Estimate one = *of("nll", cell({scored({5, 6})}), cell({scored({1, 2})}));
  EXPECT_DOUBLE_EQ(*one.delta, 4);
  EXPECT_FALSE(one.delta_interval);
  EXPECT_DOUBLE_EQ(*one.p, 1);
}

TEST(Estimate, TestsPairsOfZeroOrOneExactly) {
  const auto copied = [](bool right) {
    return Outcome{.generated = {{right ? 1 : 2}}, .answers = {{1}}};
  };
  const CellOutcome dense = cell({copied(true), copied(true), copied(true)});
  const CellOutcome method = cell({copied(false), copied(false), copied(true)});
  const Estimate exact = *of("exact", method, dense);
  EXPECT_DOUBLE_EQ(exact.value, 1.0 / 3);
  EXPECT_DOUBLE_EQ(*exact.delta, -2.0 / 3);
  EXPECT_DOUBLE_EQ(*exact.p, 0.5);  // mcnemar(2, 0)
}

TEST(Estimate, OfAProportionHasWilsonsInterval) {
  std::vector<Outcome> right(8, Outcome{.generated = {{1}}, .answers = {{1}}});
  const auto all = of("exact", cell(right), cell(right));
  EXPECT_NEAR(all->interval->low, 0.6755924, 5e-8);  // 8 of 8, not [1, 1]
  EXPECT_DOUBLE_EQ(all->interval->high, 1);
  EXPECT_NEAR(all->interval->se, 0, 1e-12);
}

TEST(Accuracy, CountsLabelsPredictedFirst) {
  const CellOutcome method = cell({scored({0, 0, 0}, {1, 2, 1})});
  EXPECT_DOUBLE_EQ(value("acc", method, method), 2.0 / 3);
}

TEST(TokenAcc, AShortAnswerIsWrongWhereItEnds) {
  const CellOutcome method = cell({{.generated = {{5, 6}}, .answers = {{5, 7, 8, 9}}}});
  EXPECT_DOUBLE_EQ(value("token_acc", method, method), 0.25);
  EXPECT_DOUBLE_EQ(value("exact", method, method), 0);
}

// 4096 tokens of Llama-2-7B: 2-bit codes in groups of 32 with two 16-bit numbers each, the newest
// 128 values as they came.
TEST(Memory, RatiosAreOfWhatIsReallyHeld) {
  Outcome sample;
  sample.end = {.tokens = 4096,
                .payload = 429916160 - 1000,
                .metadata = 1000,
                .committed = 429916160 + 512,
                .dense = int64_t{524288} * 4096,
                .dense_run = int64_t{1048576} * 4096};
  const CellOutcome kivi = cell({sample});
  EXPECT_NEAR(value("cr", kivi, kivi), 4.9951, 5e-5);
  EXPECT_NEAR(value("cr_run_dtype", kivi, kivi), 2 * 4.9951, 1e-4);
  EXPECT_NEAR(value("saving", kivi, kivi), 1 - 1 / 4.9951, 5e-6);
  EXPECT_NEAR(value("bits_per_element", kivi, kivi), 16 / 4.9951, 5e-5);
  EXPECT_DOUBLE_EQ(value("slack_bytes", kivi, kivi), 512);
  EXPECT_DOUBLE_EQ(value("cache_bytes", kivi, kivi), 429916160);
}

TEST(Memory, PoolsBytesNotRatios) {
  Outcome small, large;
  small.end = {.payload = 10, .dense = 100};
  large.end = {.payload = 90, .dense = 100};
  const CellOutcome both = cell({small, large});
  EXPECT_DOUBLE_EQ(value("cr", both, both), 2);  // the mean of the ratios would be 5.6
}

TEST(Speed, TimePerTokenIsTheMeanGap) {
  Outcome sample;  // tokens came after 0.120, 0.140, 0.165, 0.185 and 0.210 s
  sample.timing = {.prefill_s = 0.1,
                   .prefill_tokens = 50,
                   .decode_s = 0.2,
                   .decode_tokens = 5,
                   .first_token_s = 0.120,
                   .steps_s = {0.020, 0.025, 0.020, 0.025}};
  const CellOutcome one = cell({sample});
  EXPECT_NEAR(value("ttft_ms", one, one), 120, 1e-9);
  EXPECT_NEAR(value("tpot_ms", one, one), 22.5, 1e-9);
  EXPECT_NEAR(value("prefill_tok_s", one, one), 500, 1e-9);
  EXPECT_NEAR(value("decode_tok_s", one, one), 25, 1e-9);
  EXPECT_NEAR(value("itl_p50", one, one), 20, 1e-9);
  EXPECT_NEAR(value("itl_p95", one, one), 25, 1e-9);
}

TEST(Speed, BandwidthIsTheBytesOfAPassOverTheTimeOfItsAttention) {
  // One layer, 8 kv heads of 128 features, 32768 tokens in 16 bits: 60 us.
  Outcome sample{.decode_passes = 1, .decode_attends = 1, .moved_bytes = 134217728};
  sample.timing.attend_s = 60e-6;
  CellOutcome layer = cell({sample});
  layer.read_gb_s = 2600;
  EXPECT_NEAR(value("attn_gb_s", layer, layer), 2236.96, 5e-3);
  EXPECT_NEAR(value("bw_frac", layer, layer), 0.8604, 5e-5);
  EXPECT_DOUBLE_EQ(value("attn_us", layer, layer), 60);
  EXPECT_DOUBLE_EQ(value("bytes_moved", layer, layer), 134217728);
}

TEST(Speed, AttentionIsComparedWithWhatFewerBytesAllow) {
  Outcome dense{.decode_attends = 1, .moved_bytes = 400}, quarter = dense;
  quarter.moved_bytes = 100;
  dense.timing.attend_s = 2;
  quarter.timing.attend_s = 1;
  const CellOutcome slow = cell({dense}), fast = cell({quarter});
  EXPECT_DOUBLE_EQ(value("attn_speedup", fast, slow), 2);
  EXPECT_DOUBLE_EQ(value("speedup_roofline", fast, slow), 4);
  EXPECT_DOUBLE_EQ(value("roofline_frac", fast, slow), 0.5);
}

TEST(GreedyPrefix, CountsTokensBeforeTheFirstDifference) {
  const CellOutcome dense = cell({{.generated = {{1, 2, 3}}}, {.generated = {{4, 5}}}});
  const CellOutcome other = cell({{.generated = {{1, 2, 9}}}, {.generated = {{4, 5, 6}}}});
  EXPECT_DOUBLE_EQ(value("greedy_prefix", other, dense), 2);
  EXPECT_DOUBLE_EQ(value("greedy_prefix", dense, dense), 2.5);
}

TEST(PerplexityMetric, AsTheSnippetOfTheDocumentationWeightsIt) {
  // strided(4,2) of 10 tokens, the NLL of token i is i.
  CellOutcome windows = cell({scored({1, 2, 3}), scored({4, 5}), scored({6, 7}), scored({8, 9})});
  const int fresh[] = {4, 2, 2, 2};
  for (size_t i = 0; i < 4; ++i) windows.samples[i].meta["fresh"] = fresh[i];
  EXPECT_NEAR(std::log(value("ppl_compat_hf", windows, windows)), 4.25, 1e-12);
  EXPECT_NEAR(value("ppl_compat_hf", windows, windows), 70.1054, 5e-5);
  EXPECT_NEAR(value("ppl", windows, windows), 148.4132, 5e-5);
}

TEST(DeltaNll, SplitsByTokensSinceTheLastCompression) {
  CellOutcome dense = cell({scored({0, 0, 0, 0})}), method = cell({scored({1, 2, 3, 4})});
  method.samples[0].since_event = dense.samples[0].since_event = {0, 8, 9, 3000};
  EXPECT_DOUBLE_EQ(value("delta_nll_d1_8", method, dense), 2);
  EXPECT_DOUBLE_EQ(value("delta_nll_d9_32", method, dense), 3);
  EXPECT_DOUBLE_EQ(value("delta_nll_d2049", method, dense), 4);
  EXPECT_FALSE(of("delta_nll_d33_128", method, dense));
}

TEST(TokenBlocks, AreUnitsOf512) {
  const auto blocks = token_blocks(std::vector<double>(1025, 2.0));
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0], (Share{1024, 512}));
  EXPECT_EQ(blocks[2], (Share{2, 1}));
  EXPECT_TRUE(token_blocks({}).empty());
}

TEST(Catalogue, KnowsWhatItsFoldersAdd) {
  EXPECT_THAT(catalogue().tasks(), testing::IsSupersetOf({"copy", "mqar", "ppl"}));
  EXPECT_THAT(catalogue().protocols(), testing::IsSupersetOf({"decode", "disjoint"}));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `mqar`", catalogue().task("mqra"));
}

TEST(Catalogue, EveryTaskNamesMetricsThatExist) {
  for (const std::string& name : catalogue().tasks()) {
    EXPECT_NO_THROW(catalogue().task(name).schema(Json::object())) << name;
  }
  for (const auto& [name, metric] : catalogue().metrics()) {
    EXPECT_EQ(int{bool(metric.shares)} + int{bool(metric.units)} + int{bool(metric.value)}, 1)
        << name;
    EXPECT_FALSE(metric.doc.empty()) << name;
  }
}

TEST(Catalogue, RefusesANameTwice) {
  Catalogue mine;
  mine.add(Metric{.name = "one"});
  EXPECT_REFUSED("E_CONFIG", "already", mine.add(Metric{.name = "one"}));
  EXPECT_REFUSED("E_CONFIG", "[a-z]", mine.add(Metric{.name = "One"}));
}

}  // namespace
}  // namespace kvlab
