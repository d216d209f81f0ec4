// Three choices with their log-likelihoods, worked by hand.

#include "eval/metrics/choices/choices.h"

#include <gmock/gmock.h>

#include <cmath>

#include "eval/catalogue.h"

namespace kvlab {
namespace {

/// "cat", "elephant", "über": one, two and one token; then the same after nothing.  A token of the
/// context is scored ahead of them.
Outcome outcome(size_t gold, bool alone = true) {
  Outcome made{.nll = {9, 3.0, 4.0, 0.2, 4.0},
               .labels = {1, 2, 3, 4, 5},
               .predicted = {0, 2, 3, 4, 0},
               .turn_scored = {1, 2, 1},
               .meta = {{"gold", gold},
                        {"choices",
                         {{{"characters", 3}, {"bytes", 3}},
                          {{"characters", 8}, {"bytes", 8}},
                          {{"characters", 4}, {"bytes", 5}}}}}};
  if (!alone) return made;
  made.nll.insert(made.nll.end(), {5, 3, 4, 8});
  made.labels.insert(made.labels.end(), {2, 3, 4, 5});
  made.predicted.insert(made.predicted.end(), {0, 0, 0, 0});
  made.turn_scored.insert(made.turn_scored.end(), {1, 2, 1});
  return made;
}

double value_of(const char* name, const Outcome& outcome) {
  const Metric& metric = catalogue().metric(name);
  const double value = pooled(metric.shares(outcome, nullptr));
  return metric.finish == nullptr ? value : metric.finish(value);
}

TEST(Choices, AreReadTurnByTurn) {
  const Question question = *question_of(outcome(1));
  ASSERT_EQ(question.choices.size(), 3u);
  const double ll[] = {-3.0, -4.2, -4.0}, alone[] = {-5, -7, -8};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ(question.choices[i].ll, ll[i]);
    EXPECT_EQ(question.choices[i].ll_alone, alone[i]);
    EXPECT_EQ(question.choices[i].is_greedy, i != 2);
  }
  EXPECT_FALSE(question_of({}).has_value());
}

TEST(Choices, EachRuleChoosesForItself) {
  const std::vector<Choice> choices = question_of(outcome(1))->choices;
  EXPECT_EQ(chosen(choices, ChosenBy::ll), 0u);
  EXPECT_EQ(chosen(choices, ChosenBy::per_character), 1u);       // -1, -0.525, -1
  EXPECT_EQ(chosen(choices, ChosenBy::per_byte), 1u);            // -1, -0.525, -0.8
  EXPECT_EQ(chosen(choices, ChosenBy::per_token), 1u);           // -3, -2.1, -4
  EXPECT_EQ(chosen(choices, ChosenBy::mutual_information), 2u);  // 2, 2.8, 4
}

TEST(Choices, TheFirstWinsATie) {
  EXPECT_EQ(chosen({{.ll = -1}, {.ll = -1}}, ChosenBy::ll), 0u);
  EXPECT_EQ(chosen({{.ll = -2}, {.ll = -1}, {.ll = -1}}, ChosenBy::ll), 1u);
}

TEST(Choices, MetricsAskWhetherTheChosenIsRight) {
  EXPECT_EQ(value_of("choice_acc", outcome(0)), 1);
  EXPECT_EQ(value_of("choice_acc", outcome(1)), 0);
  EXPECT_EQ(value_of("acc_norm", outcome(1)), 1);
  EXPECT_EQ(value_of("acc_bytes", outcome(1)), 1);
  EXPECT_EQ(value_of("acc_tok", outcome(1)), 1);
  EXPECT_EQ(value_of("acc_pmi", outcome(2)), 1);
  EXPECT_EQ(value_of("acc_pmi", outcome(1)), 0);
  EXPECT_EQ(value_of("is_greedy", outcome(1)), 1);
  EXPECT_EQ(value_of("is_greedy", outcome(2)), 0);
}

TEST(Choices, BrierIsTheSquaredDistanceOfProbabilities) {
  EXPECT_NEAR(value_of("brier", outcome(1)), 1.0791952, 1e-7);
  EXPECT_NEAR(brier({.choices = {{.ll = -1e6}, {.ll = -2e6}}, .gold = 0}), 0, 1e-12);
}

TEST(Choices, TheRightOneHasAPerplexityOfItsOwn) {
  EXPECT_DOUBLE_EQ(value_of("target_ll", outcome(1)), -4.2);
  EXPECT_DOUBLE_EQ(value_of("target_ppl", outcome(1)), std::exp(4.2));
}

TEST(Choices, MutualInformationNeedsTurnsFromNothing) {
  EXPECT_TRUE(catalogue().metric("acc_pmi").shares(outcome(0, false), nullptr).empty());
}

}  // namespace
}  // namespace kvlab
