#include "eval/fidelity.h"

#include <gmock/gmock.h>

#include <array>
#include <cmath>

#include "eval/catalogue.h"
#include "eval/layer_fidelity.h"
#include "eval/metric.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using Row = std::array<float, 4>;

constexpr Row kDense[] = {{2, 1, 0, -1}, {0, .5, .25, -2}, {1, 1, 0, 0}};
constexpr Row kOther[] = {{1.5, 1.25, 0, -1}, {.6F, .5, .25, -2}, {1, 1, 0, 0}};
constexpr int32_t kLabels[] = {0, 1, 1};

/// Three tokens, a vocabulary of four.
CellOutcome worked_cell() {
  Outcome sample;
  for (size_t i = 0; i < 3; ++i) {
    sample.fidelity.add(kDense[i], kOther[i], kLabels[i]);
    sample.nll.push_back(0);
  }
  return {.samples = {sample}};
}

double metric(const char* name, const CellOutcome& cell) {
  return estimate(catalogue().metric(name), cell, cell, true, {.resamples = 2})->value;
}

TEST(LogitFidelity, OfThreeTokensIsWhatItsDefinitionsSay) {
  const CellOutcome cell = worked_cell();
  const Fidelity& fidelity = cell.samples[0].fidelity;
  EXPECT_THAT(fidelity.kl,
              ElementsAre(DoubleNear(0.0568435, 1e-7), DoubleNear(0.0365721, 1e-7), 0));
  EXPECT_NEAR(metric("kl", cell), 0.0311385, 1e-7);
  EXPECT_NEAR(metric("kl_rev", cell), 0.0329663, 1e-7);
  EXPECT_NEAR(metric("js", cell), 0.0079661, 1e-7);
  EXPECT_NEAR(metric("tv", cell), 0.0969538, 1e-7);
  EXPECT_DOUBLE_EQ(metric("top1_agree", cell), 2.0 / 3);
  EXPECT_THAT(fidelity.dense_nll,
              ElementsAre(DoubleNear(0.4401897, 1e-7), DoubleNear(0.9031716, 1e-7),
                          DoubleNear(1.0064089, 1e-7)));
  EXPECT_NEAR(metric("dp_mean", cell), -0.0774019, 1e-7);
  EXPECT_NEAR(metric("dp_rms", cell), 0.1025699, 1e-7);
  EXPECT_NEAR(metric("logit_max_abs", cell), 0.6, 1e-7);
  EXPECT_NEAR(metric("logit_mean_abs", cell), 0.1125, 1e-7);
  EXPECT_NEAR(metric("logit_rel_fro", cell), 0.2337077, 1e-7);
  // The first choice was lost once, where it led by a quarter.
  EXPECT_NEAR(metric("flip_margin_p50", cell), 0.25, 1e-7);
}

TEST(LogitFidelity, TopTwoOfThoseTokens) {
  const auto overlap = [](size_t i) { return top_k_overlap(kDense[i], kOther[i], 2); };
  EXPECT_EQ(overlap(0), 2);
  EXPECT_EQ(overlap(1), 1);
  EXPECT_EQ(overlap(2), 2);
}

TEST(LogitFidelity, OfEqualRowsIsExactlyZero) {
  Fidelity fidelity;
  const Row row{-3.7F, 88.1F, 0.013F, 88.0F};
  fidelity.add(row, row, 2);
  EXPECT_THAT(fidelity.kl, ElementsAre(0));
  EXPECT_THAT(fidelity.kl_rev, ElementsAre(0));
  EXPECT_THAT(fidelity.js, ElementsAre(0));
  EXPECT_THAT(fidelity.tv, ElementsAre(0));
  EXPECT_THAT(fidelity.dp, ElementsAre(0));
  EXPECT_THAT(fidelity.agrees, ElementsAre(1));
  EXPECT_EQ(fidelity.error, 0);
}

TEST(LogitFidelity, SurvivesProbabilitiesThatVanish) {
  // p is 1, 0, 0, 0 and q is 0, 1, 0, 0 in float64.
  const TokenFidelity got = compare_logits(Row{2000, 0, 0, 0}, Row{0, 2000, 0, 0}, 0);
  EXPECT_DOUBLE_EQ(got.kl, 2000);
  EXPECT_DOUBLE_EQ(got.tv, 1);
  EXPECT_DOUBLE_EQ(got.js, std::log(2.0));
  EXPECT_DOUBLE_EQ(got.dp, -1);
}

TEST(TopK, TakesTheLowestIndexAmongEquals) {
  const Row row{1, 2, 2, 1};
  EXPECT_THAT(top_k(row, 1), ElementsAre(1));
  EXPECT_THAT(top_k(row, 3), ElementsAre(1, 2, 0));
  EXPECT_REFUSED("E_BAD_TOPK", "k = 5", top_k(row, 5));
  EXPECT_REFUSED("E_BAD_TOPK", "1..4", top_k(row, 0));
}

TEST(TopK, OverlapsLargerThanTheVocabularyAreLeftOut) {
  const Fidelity fidelity = worked_cell().samples[0].fidelity;
  EXPECT_TRUE(fidelity.overlap_5.empty());
  EXPECT_FALSE(
      estimate(catalogue().metric("top5_overlap"), worked_cell(), worked_cell(), true, {}));
}

TEST(AttentionOutput, OfOneQuery) {
  LayerFidelity layer;
  double error[1] = {}, norm[1] = {};
  compare_outputs(std::array{3.F, 4.F, 0.F}, std::array{3.F, 4.F, 1.F}, layer, error, norm);
  EXPECT_THAT(layer.cosine, ElementsAre(DoubleNear(0.9805807, 1e-7)));
  EXPECT_THAT(layer.nmse, ElementsAre(DoubleNear(0.04, 1e-12)));
  const CellOutcome cell{.samples = {Outcome{.layers = {layer}}}};
  EXPECT_NEAR(metric("attn_snr_db", cell), 13.9794, 1e-4);
}

TEST(AttentionOutput, SplitsItsErrorAmongHeads) {
  LayerFidelity layer;
  double error[2] = {}, norm[2] = {};
  compare_outputs(std::array{1.F, 0.F, 0.F, 2.F}, std::array{1.F, 0.F, 0.F, 3.F}, layer, error,
                  norm);
  EXPECT_THAT(error, ElementsAre(0, 1));
  EXPECT_THAT(norm, ElementsAre(1, 4));
}

TEST(AttentionOutput, ThatIsExactHasNoSignalToNoiseRatio) {
  LayerFidelity layer;
  double error[1] = {}, norm[1] = {};
  compare_outputs(std::array{3.F, 4.F}, std::array{3.F, 4.F}, layer, error, norm);
  const CellOutcome cell{.samples = {Outcome{.layers = {layer}}}};
  EXPECT_EQ(metric("attn_nmse", cell), 0);
  const Metric& snr = catalogue().metric("attn_snr_db");
  EXPECT_FALSE(estimate(snr, cell, cell, true, {}));
  EXPECT_EQ(snr.by_layer(cell), Json::parse("[null]"));
}

}  // namespace
}  // namespace kvlab
