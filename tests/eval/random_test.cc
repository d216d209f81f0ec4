#include "eval/random.h"

#include <gmock/gmock.h>

namespace kvlab {
namespace {

using testing::ElementsAre;

TEST(SplitMix64, StartsAtZeroWithThePublishedNumbers) {
  SplitMix64 random(0);
  EXPECT_EQ(random.next(), 0xe220a8397b1dcdafu);
  EXPECT_EQ(random.next(), 0x6e789e6aa1b965f4u);
  EXPECT_EQ(random.next(), 0x06c45d188009454fu);
}

TEST(SplitMix64, BelowTakesTheHighBitsOfTheProduct) {
  SplitMix64 random(42);
  std::vector<uint64_t> drawn;
  for (int i = 0; i < 10; ++i) drawn.push_back(random.below(10));
  EXPECT_THAT(drawn, ElementsAre(7, 1, 2, 3, 0, 8, 2, 8, 3, 6));
}

TEST(SplitMix64, ShufflesFromTheEnd) {
  SplitMix64 random(42);
  std::vector<int> items{0, 1, 2, 3, 4, 5, 6, 7};
  random.shuffle(items);
  EXPECT_THAT(items, ElementsAre(4, 3, 2, 0, 7, 6, 1, 5));
}

TEST(SplitMix64, ShufflingNothingOrOneItemDrawsNothing) {
  SplitMix64 random(42);
  std::vector<int> none, one{3};
  random.shuffle(none);
  random.shuffle(one);
  EXPECT_EQ(random.next(), SplitMix64(42).next());
}

TEST(SplitMix64, SamplesInTheOrderDrawn) {
  EXPECT_THAT(SplitMix64(42).sample_range(0, 20, 5), ElementsAre(14, 4, 7, 8, 1));
}

TEST(SplitMix64, FractionsUse53Bits) {
  SplitMix64 random(42);
  EXPECT_NEAR(random.u01(), 0.741565, 5e-7);
  EXPECT_NEAR(random.u01(), 0.159910, 5e-7);
  EXPECT_NEAR(random.u01(), 0.278601, 5e-7);
}

TEST(RandomStream, DependsOnSeedTaskAndIndexAlone) {
  EXPECT_EQ(fnv1a64("mqar"), 0x95b6cea280e8b424u);
  SplitMix64 mqar = random_stream(7, "mqar", 0);
  EXPECT_EQ(mqar.next(), 0x700e0a0093ea64c8u);
  EXPECT_EQ(mqar.next(), 0x17b22c55f4e9b868u);
}

// The draws of specified text generators, which other tasks build on.
TEST(RandomStream, NumbersOfANeedleTask) {
  SplitMix64 random = random_stream(42, "niah_single_1", 0);
  std::vector<uint64_t> drawn;
  for (int i = 0; i < 3; ++i) drawn.push_back(1000000 + random.below(9000000));
  EXPECT_THAT(drawn, ElementsAre(2285144, 8596598, 6481790));
}

TEST(RandomStream, WordsAreThreeSyllablesConsonantFirst) {
  SplitMix64 random = random_stream(42, "words", 0);
  const auto word = [&] {
    std::string text;
    for (int i = 0; i < 3; ++i) {
      text += "bcdfghjklmnprstvz"[random.below(17)];
      text += "aeiou"[random.below(5)];
    }
    return text;
  };
  const auto pair = [&] {
    const std::string first = word();
    return first + "-" + word();
  };
  EXPECT_EQ(pair(), "mukabo-nudumo");
  EXPECT_EQ(pair(), "sisaha-bibico");
  EXPECT_EQ(pair(), "rekaje-dikofe");
}

TEST(RandomStream, NamesAndNumberOfAVariableChain) {
  SplitMix64 random = random_stream(42, "vt", 0);
  std::vector<std::string> names;
  for (int n = 0; n < 5; ++n) {
    std::string name;
    for (int i = 0; i < 5; ++i) name += static_cast<char>('A' + random.below(26));
    names.push_back(name);
  }
  EXPECT_THAT(names, ElementsAre("RKBXR", "SQQND", "JCMBT", "QEPQU", "EQIFK"));
  EXPECT_EQ(10000 + random.below(89999), 52305u);
}

TEST(RandomStream, UuidIsTwoDrawsHighFirst) {
  SplitMix64 random = random_stream(42, "uuid", 0);
  const uint64_t high = random.next(), low = random.next();
  EXPECT_EQ(high >> 32, 0x76cc1103u);
  EXPECT_EQ((high >> 16) & 0xffff, 0xf1bau);
  EXPECT_EQ(high & 0x0fff, 0xbd0u);  // version 4 goes in front of it
  EXPECT_EQ(low & 0xffffffffffffu, 0x1435ebad3f93u);
}

}  // namespace
}  // namespace kvlab
