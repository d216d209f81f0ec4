#include "eval/synthetic/values.h"

#include <gmock/gmock.h>

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::MatchesRegex;

std::vector<std::string> drawn(SplitMix64 random, ValueKind kind, int count) {
  std::vector<std::string> values;
  for (int i = 0; i < count; ++i) values.push_back(draw_value(random, kind));
  return values;
}

TEST(Values, AreTheWorkedOnes) {
  EXPECT_THAT(drawn(random_stream(42, "niah_single_1", 0), ValueKind::numbers, 3),
              ElementsAre("2285144", "8596598", "6481790"));
  EXPECT_THAT(drawn(random_stream(42, "words", 0), ValueKind::words, 3),
              ElementsAre("mukabo-nudumo", "sisaha-bibico", "rekaje-dikofe"));
  EXPECT_THAT(drawn(random_stream(42, "uuid", 0), ValueKind::uuids, 1),
              ElementsAre("76cc1103-f1ba-4bd0-af41-1435ebad3f93"));
}

TEST(Values, NamesOfAVariableChainAreTheWorkedOnes) {
  SplitMix64 random = random_stream(42, "vt", 0);
  std::vector<std::string> names;
  for (int i = 0; i < 5; ++i) names.push_back(draw_letters(random, 'A', 5));
  EXPECT_THAT(names, ElementsAre("RKBXR", "SQQND", "JCMBT", "QEPQU", "EQIFK"));
  EXPECT_EQ(10000 + random.below(89999), 52305u);
}

TEST(Values, HaveTheFormOfTheirKind) {
  const SplitMix64 random(1);
  const std::string word = "([bcdfghjklmnprstvz][aeiou])";
  EXPECT_THAT(drawn(random, ValueKind::words, 50),
              testing::Each(MatchesRegex(word + word + word + "-" + word + word + word)));
  EXPECT_THAT(drawn(random, ValueKind::numbers, 50),
              testing::Each(MatchesRegex("[1-9][0-9][0-9][0-9][0-9][0-9][0-9]")));
  EXPECT_THAT(drawn(random, ValueKind::uuids, 50),
              testing::Each(MatchesRegex("[0-9a-f]+-[0-9a-f]+-4[0-9a-f]+-[89ab][0-9a-f]+-[0-9a-f]"
                                         "+")));
}

TEST(Distinct, DrawsAgainUntilATextIsNew) {
  Distinct distinct;
  std::vector<std::string> given{"a", "a", "b", "a", "c"}, made;
  size_t next = 0;
  for (int i = 0; i < 3; ++i) made.push_back(distinct([&] { return given[next++]; }));
  EXPECT_THAT(made, ElementsAre("a", "b", "c"));
}

}  // namespace
}  // namespace kvlab
