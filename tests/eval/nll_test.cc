#include "eval/nll.h"

#include <gmock/gmock.h>
#include <array>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

TEST(ScoreToken, IsTheNegativeLogProbability) {
  EXPECT_NEAR(score_token(std::vector<float>{2, 1, 0, -1}, 0).nll, 0.4401897, 5e-8);
  EXPECT_NEAR(score_token(std::vector<float>{0, .5, .25, -2}, 1).nll, 0.9031716, 5e-8);
  EXPECT_NEAR(score_token(std::vector<float>{1, 1, 0, 0}, 1).nll, 1.0064089, 5e-8);
  EXPECT_NEAR(score_token(std::vector<float>{1.5, 1.25, 0, -1}, 0).nll, 0.7342968, 5e-8);
}

TEST(ScoreToken, KeepsTinyProbabilitiesAndLargeLogits) {
  EXPECT_NEAR(score_token(std::vector<float>{3e38f, -3e38f}, 1).nll, 6e38, 1e31);
  EXPECT_NEAR(score_token(std::vector<float>{12, 0}, 0).nll, std::log1p(std::exp(-12)),
              0x1p-52);  // of the sum, which is 1
}

TEST(ScoreToken, SumsAVocabularyInFloat64) {
  const std::vector<float> alike(131072, 7.5f);
  EXPECT_NEAR(score_token(alike, 5).nll, std::log(131072.0), 1e-12);
}

TEST(ArgMax, TiesGoToTheLowestIndex) {
  EXPECT_EQ(arg_max(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(arg_max(std::vector<float>{-5}), 0);
}

TEST(ArgMax, NothingNonFinitePasses) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), kInf, -kInf}) {
    for (const size_t at : {0, 1, 2}) {
      std::vector<float> logits{1, 2, 3};
      logits[at] = bad;
      EXPECT_REFUSED("E_NONFINITE", "NaN", arg_max(logits));
      EXPECT_REFUSED("E_NONFINITE", "NaN", score_token(logits, 1));
    }
  }
}

TEST(ScoreToken, RefusesALabelOutsideTheVocabulary) {
  EXPECT_REFUSED("E_POSITION", "token 3", score_token(std::vector<float>{1, 2, 3}, 3));
  EXPECT_REFUSED("E_POSITION", "token -1", score_token(std::vector<float>{1, 2, 3}, -1));
}

TEST(TokenScore, OfAnAttentionThatMatchesOneOfFourKeys) {
  // Scores 4, 0, 0, 0 and values that are logits of 6: the match, then without it.
  const double match = std::exp(4.0) / (std::exp(4.0) + 3), other = (1 - match) / 3;
  const auto logit = [](double p) { return static_cast<float>(6 * p); };
  const std::array kept{logit(match), logit(other), logit(other), logit(other)};
  EXPECT_NEAR(score_token(kept, 0).nll, 0.0112170, 1e-6);
  const std::array gone{0.0F, 2.0F, 2.0F, 2.0F};
  EXPECT_NEAR(score_token(gone, 0).nll, 3.1427361, 1e-6);
}

}  // namespace
}  // namespace kvlab
