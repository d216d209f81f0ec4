#include "eval/synthetic/haystack.h"

#include <gmock/gmock.h>

#include <fstream>
#include <set>

#include "eval/synthetic/prose.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;

Haystack haystack(const char* kind, const std::string& file = "") {
  const Json params{{"haystack", kind}, {"text", file}};
  return Haystack({.params = &params, .locate = [](const auto& path) { return path; }});
}

std::string file_with(const std::string& text) {
  const std::string path = testing::TempDir() + "haystack.txt";
  std::ofstream(path) << text;
  return path;
}

TEST(Depths, AreFortyFromZeroToHundred) {
  std::vector<int32_t> depths;
  for (int32_t i = 0; i < kDepths; ++i) depths.push_back(depth_percent(i));
  EXPECT_THAT(depths, ElementsAre(0, 3, 5, 8, 10, 13, 15, 18, 21, 23, 26, 28, 31, 33, 36, 38, 41,
                                  44, 46, 49, 51, 54, 56, 59, 62, 64, 67, 69, 72, 74, 77, 79, 82,
                                  85, 87, 90, 92, 95, 97, 100));
}

TEST(Words, AreWhatStandsBetweenWhiteSpace) {
  EXPECT_THAT(split_words("  one\ttwo \n\n thrée\r\n"), ElementsAre("one", "two", "thrée"));
  EXPECT_THAT(split_words(" \n "), ElementsAre());
}

TEST(Sentences, EndAfterASignThatASpaceFollows) {
  EXPECT_THAT(split_sentences("It is 3.5 here. Is it? Yes! And. So"),
              ElementsAre("It is 3.5 here.", "Is it?", "Yes!", "And.", "So"));
  EXPECT_THAT(split_sentences("No end"), ElementsAre("No end"));
  EXPECT_THAT(split_sentences("At the end."), ElementsAre("At the end."));
}

TEST(Text, IsRepeatedWhenTooShort) {
  SplitMix64 random(0);
  const Haystack text = haystack("text", file_with("One  two.\nThree"));
  EXPECT_THAT(text.pieces(random, 7), ElementsAre("One two.", "Three One two.", "Three One"));
  EXPECT_EQ(text.files()[0].at("bytes"), 15);
}

TEST(Noise, IsOneTextPerUnit) {
  SplitMix64 random(0);
  EXPECT_THAT(haystack("noise").pieces(random, 2), ElementsAre(noise_unit(), noise_unit()));
  EXPECT_EQ(random.next(), SplitMix64(0).next()) << "noise draws nothing";
}

TEST(Prose, HasASubjectAVerbAndAnObject) {
  SplitMix64 random(3);
  std::set<std::string> words;
  for (int i = 0; i < 3000; ++i)
    for (const std::string& word : split_words(prose_sentence(random))) words.insert(word);
  // Every word of 64 + 32 + 64 but those of both lists, and The, the; objects end in a full stop.
  EXPECT_EQ(words.size(), 162u);
}

TEST(Places, AreDifferentSlotsOrDepthsInOrder) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SplitMix64 random(seed);
    const auto slots = haystack("needles").draw_places(random, 6, 6).slots(6);
    EXPECT_THAT(slots, ElementsAre(0, 1, 2, 3, 4, 5));
    const auto depths = haystack("prose").draw_places(random, 6, 40).slots(1000);
    EXPECT_EQ(depths.size(), 40u);
    EXPECT_TRUE(std::ranges::is_sorted(depths));
    EXPECT_EQ(depths.back(), 1000u) << "after the last sentence";
  }
}

TEST(Places, AreDrawnAtACostThatDoesNotDependOnTheLength) {
  for (const char* kind : {"noise", "prose"}) {
    SplitMix64 one(9), other(9);
    (void)haystack(kind).draw_places(one, 10, 4);
    (void)haystack(kind).draw_places(other, 1000, 4);
    EXPECT_EQ(one.next(), other.next()) << kind;
  }
}

TEST(Haystack, NeedsAFileExactlyWhereItIsAText) {
  EXPECT_REFUSED("E_CONFIG", "needs a UTF-8 file", haystack("text"));
  EXPECT_REFUSED("E_CONFIG", "is not \"text\"", haystack("noise", "a.txt"));
  EXPECT_REFUSED("E_FILE", "missing.txt", haystack("text", "/missing.txt"));
  EXPECT_REFUSED("E_TEXT_TOO_SHORT", "no word", haystack("text", file_with(" \n")));
  EXPECT_REFUSED("E_FORMAT", "", haystack("text", file_with("a \xff b")));
}

}  // namespace
}  // namespace kvlab
