#include "eval/synthetic/zipf.h"

#include <gmock/gmock.h>

namespace kvlab {
namespace {

TEST(ZipfCounts, AreTheWorkedOnes) {
  EXPECT_THAT(zipf_counts(1000, 12),
              testing::ElementsAre(607, 151, 67, 37, 24, 16, 12, 9, 7, 6, 5, 4));
}

TEST(ZipfCounts, SeparateTheFourthRankFromTheFifthFrom74WordsOn) {
  for (int64_t words = 74; words < 5000; ++words) {
    const auto counts = zipf_counts(words, 5);
    EXPECT_GT(counts[3], counts[4]) << words << " words";
  }
}

}  // namespace
}  // namespace kvlab
