#include "eval/metrics/string_match/match.h"

#include <gmock/gmock.h>

#include "eval/catalogue.h"

namespace kvlab::metrics::string_match {
namespace {

using Texts = std::vector<std::string>;

TEST(StringMatch, GivesTheWorkedScores) {
  EXPECT_EQ(match_all("The numbers are 1234567 and 7654321.",
                      Texts{"1234567", "7654321", "1111111", "2222222"}),
            0.5);
  EXPECT_EQ(match_any("in PARIS.", Texts{"Paris", "Rome"}), 1);
  EXPECT_EQ(match_any("IN ZÜRICH.", Texts{"Zürich"}), 1);
  EXPECT_EQ(match_any("in Berlin.", Texts{"Paris", "Rome"}), 0);
}

TEST(StringMatch, ReadsControlCharactersAsNewlines) {
  EXPECT_EQ(normalised("\t A\x01"
                       "B\r\n "),
            "a\nb");
  EXPECT_EQ(match_all(std::string("a\0b", 3), Texts{"a\nb"}), 1);
  EXPECT_EQ(match_all("a b", Texts{"a\tb"}), 0);
  EXPECT_EQ(normalised(" \n"), "");
}

TEST(StringMatch, StrictlyAReferenceStandsByItself) {
  EXPECT_EQ(match_all("91234", Texts{"123"}), 1);
  EXPECT_EQ(match_strict("91234", Texts{"123"}), 0);
  EXPECT_EQ(match_strict("9123 and 123", Texts{"123"}), 1) << "a later one counts";
  EXPECT_EQ(match_strict("(123).", Texts{"123"}), 1);
  EXPECT_EQ(match_strict("ABC, DEF", Texts{"abc", "def"}), 1);
  EXPECT_EQ(match_strict("xabc", Texts{"abc"}), 0);
  EXPECT_EQ(match_strict("abcé", Texts{"abc"}), 0);
}

TEST(StringMatch, TheFirstIntegerCounts) {
  EXPECT_EQ(first_integer(" 12345. Or 54321", Texts{"12345"}), 1);
  EXPECT_EQ(first_integer("54321, or 12345", Texts{"12345"}), 0);
  EXPECT_EQ(first_integer("123456", Texts{"12345"}), 0);
  EXPECT_EQ(first_integer("none", Texts{"12345"}), 0);
  EXPECT_EQ(first_integer("", Texts{""}), 0);
}

TEST(StringMatch, ASampleIsTheMeanOfItsTurns) {
  const Outcome sample{.texts = {"1", "nothing"}, .references = {{"1", "2"}, {"3"}}};
  const auto shares = turns_scored(sample, match_all);
  ASSERT_EQ(shares.size(), 1u);
  EXPECT_EQ(shares[0].sum, 0.5);
  EXPECT_EQ(shares[0].weight, 2);
  EXPECT_TRUE(turns_scored({}, match_all).empty());
}

TEST(EmptyAnswers, AreTurnsWithoutAToken) {
  const Metric& metric = catalogue().metric("empty_answers");
  const auto shares = metric.shares({.generated = {{}, {3}, {}}}, nullptr);
  ASSERT_EQ(shares.size(), 1u);
  EXPECT_EQ(shares[0].sum, 2);
  EXPECT_EQ(shares[0].weight, 3);
  EXPECT_TRUE(metric.shares({}, nullptr).empty());
}

}  // namespace
}  // namespace kvlab::metrics::string_match
