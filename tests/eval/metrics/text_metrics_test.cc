// Metrics of generated text, worked by hand.

#include <gmock/gmock.h>

#include "eval/catalogue.h"
#include "eval/metrics/classification/classification.h"
#include "eval/metrics/code_sim/code_sim.h"
#include "eval/metrics/numbers/numbers.h"
#include "eval/metrics/qa_f1/qa_f1.h"
#include "eval/metrics/rouge_l/rouge_l.h"

namespace kvlab {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::IsEmpty;
using std::string_literals::operator""s;
using Names = std::vector<std::string>;

TEST(QaF1, IsTheOverlapOfWords) {
  // quick brown fox / quick red fox jumps: 2 in common of 3 and of 4.
  EXPECT_NEAR(qa_f1("The quick, brown fox.", "a quick red fox jumps"), 4.0 / 7, 1e-12);
  EXPECT_EQ(qa_f1("An ANSWER", "the answer!"), 1);
  EXPECT_EQ(qa_f1("yes yes no", "yes"), 0.5);  // one yes of three words
  EXPECT_EQ(qa_f1("", "x"), 0);
  EXPECT_EQ(qa_f1("x", "The."), 0);
}

TEST(QaF1, DropsArticlesThatAreWholeWords) {
  EXPECT_EQ(qa_f1("theatre", "atre"), 0);
  EXPECT_EQ(qa_f1("“The” cat", "““” ”cat"), 0);
  EXPECT_EQ(qa_f1("thé", "é"), 0);   // é goes on the word
  EXPECT_EQ(qa_f1("a_b", "ab"), 1);  // punctuation leaves before words are looked at
}

TEST(QaF1, OfCharacters) {
  EXPECT_EQ(qa_f1_char("北京。", "北京"), 1);
  EXPECT_NEAR(qa_f1_char("在 北京", "北京市"), 2.0 / 3, 1e-12);
  EXPECT_EQ(qa_f1_char("！？", "北"), 0);
}

TEST(RougeL, IsTheLongestCommonSubsequenceOfWords) {
  EXPECT_NEAR(rouge_l("the cat sat on the mat", "the cat lay on the mat", Unit::word), 5.0 / 6,
              1e-12);
  EXPECT_EQ(rouge_l("a b", "c d", Unit::word), 0);
  EXPECT_EQ(rouge_l("", "a", Unit::word), 0);
  EXPECT_NEAR(rouge_l("天气 好", "天气很好", Unit::character), 6.0 / 7, 1e-12);
}

TEST(RougeL, CompatCountsDistinctWordsOfSentences) {
  EXPECT_NEAR(rouge_l_compat("the cat sat on the mat", "the cat lay on the mat", Unit::word),
              0.7999999950, 1e-10);
  EXPECT_NEAR(rouge_l_compat("the cat sat. the dog ran", "the dog ran home. a cat sat", Unit::word),
              0.8333333285, 1e-10);
  EXPECT_EQ(rouge_l_compat("", "a", Unit::word), 0);
  EXPECT_EQ(rouge_l_compat("..", "a", Unit::word), 0);
}

TEST(RougeL, CompatCountsWhiteSpaceAloneAsAnEmptyWord) {
  // {a, ""} and {a}: P = 1/2, R = 1.
  EXPECT_NEAR(rouge_l_compat("a. ", "a.", Unit::word), 2 * 0.5 / (1.5 + 1e-8), 1e-12);
}

TEST(Classification, SharesThePointAmongTheClassesNamed) {
  const Names classes{"a", "b", "abc"};
  EXPECT_EQ(classification("abc", "abc", classes), 1);
  EXPECT_EQ(classification_compat("abc", "abc", classes), 0.5);
  EXPECT_EQ(classification("abc b", "b", classes), 1.0 / 3);
  EXPECT_EQ(classification("x", "b", classes), 0);
  EXPECT_EQ(classification_compat("x", "b", classes), 0);
}

TEST(Numbers, AreTheShareOfRightOnes) {
  EXPECT_NEAR(number_share("There are 7, or 12, or 7", "7"), 2.0 / 3, 1e-12);
  EXPECT_EQ(number_share("Paragraph 12", "Paragraph 12"), 1);
  EXPECT_EQ(number_share("07", "7"), 0);
  EXPECT_EQ(number_share("none", "7"), 0);
  EXPECT_EQ(number_share("7", "none"), 0);
}

TEST(CodeSim, IsTheLikenessOfOneLine) {
  EXPECT_EQ(code_sim("kitten", "sitting"), 0.62);
  EXPECT_EQ(code_sim("return x + 1", "return x+1"), 0.91);
  EXPECT_EQ(code_sim("\n\n# note\n```\n// y\nreturn x\nmore", "return x"), 1);
  EXPECT_EQ(code_sim("# only", "x"), 0);
  EXPECT_EQ(code_sim("", ""), 1);
}

TEST(CodeSim, RoundsHalvesToTheEvenHundredth) {
  // 2 lcs / 16 = 0.125 and 0.375.
  EXPECT_EQ(code_sim("abbbbbbb", "acccccccc"s.substr(0, 8)), 0.12);
  EXPECT_EQ(code_sim("aaabbbbb", "aaaccccc"), 0.38);
}

TEST(TextMetric, TakesTheBestReferenceOfEachTurn) {
  const Metric& metric = catalogue().metric("qa_f1");
  const Outcome outcome{.texts = {"red fox", "no"}, .references = {{"cat", "fox"}, {"yes"}}};
  EXPECT_THAT(metric.shares(outcome, nullptr),
              ElementsAre(testing::FieldsAre(DoubleNear(2.0 / 3, 1e-12), 2)));
  EXPECT_THAT(metric.shares({}, nullptr), IsEmpty());
}

TEST(TextMetric, ClassesAreTheSamples) {
  const Outcome outcome{
      .texts = {"abc"}, .references = {{"abc"}}, .meta = {{"classes", {"a", "b", "abc"}}}};
  EXPECT_EQ(pooled(catalogue().metric("classification").shares(outcome, nullptr)), 1);
  EXPECT_EQ(pooled(catalogue().metric("classification_compat").shares(outcome, nullptr)), 0.5);
}

}  // namespace
}  // namespace kvlab
