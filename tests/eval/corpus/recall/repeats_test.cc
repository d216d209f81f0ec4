#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "eval/corpus/recall/kinds.h"

namespace kvlab::corpus {
namespace {

/// Every token that has followed these so far.
std::set<int32_t> after(const std::vector<int32_t>& tokens, size_t end, size_t context) {
  std::set<int32_t> followers;
  for (size_t i = context; i < end; ++i)
    if (std::equal(tokens.begin() + static_cast<long>(i - context),
                   tokens.begin() + static_cast<long>(i),
                   tokens.begin() + static_cast<long>(end - context)))
      followers.insert(tokens[i]);
  return followers;
}

TEST(Repeats, MarksExactlyWhatOneOrTwoTokensDetermine) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SplitMix64 random(seed);
    const Marked made = repeats(random, 200, 4096);
    for (size_t i = 2; i < made.tokens.size(); ++i) {
      if (made.marks[i] == 0) continue;
      const std::set<int32_t> known{made.tokens[i]};
      EXPECT_TRUE(after(made.tokens, i, 1) == known || after(made.tokens, i, 2) == known)
          << "seed " << seed << ", token " << i;
    }
  }
}

TEST(Repeats, HasTheLengthAndTheVocabularyThatWereAskedFor) {
  int64_t marked = 0, all = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SplitMix64 random(seed);
    const auto length = static_cast<int64_t>(8 + 13 * seed);
    const Marked made = repeats(random, length, 300);
    ASSERT_EQ(std::ssize(made.tokens), length);
    ASSERT_EQ(made.marks.size(), made.tokens.size());
    for (const int32_t token : made.tokens) EXPECT_TRUE(token >= 1 && token < 300) << token;
    marked += std::accumulate(made.marks.begin(), made.marks.end(), int64_t{0});
    all += length;
  }
  EXPECT_GT(marked, all / 3);
}

}  // namespace
}  // namespace kvlab::corpus
