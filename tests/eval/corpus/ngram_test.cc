#include "eval/corpus/ngram.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/random.h"
#include "tests/eval/corpus/ngram_definition.h"
#include "tests/support/refusal.h"

namespace kvlab::corpus {
namespace {

using Documents = std::vector<std::vector<uint16_t>>;

constexpr int kVocabulary = 12;

/// Tokens 1 .. `most`, small ones oftener.  Documents of 0, 1, 2 ... `longest` tokens.
Documents drawn(uint64_t seed, int documents, int longest, uint64_t most = 10) {
  SplitMix64 random(seed);
  Documents all;
  for (int d = 0; d < documents; ++d) {
    std::vector<uint16_t> one;
    for (int i = 0; i < d % (longest + 1); ++i)
      one.push_back(static_cast<uint16_t>(1 + random.below(1 + random.below(most))));
    all.push_back(one);
  }
  return all;
}

std::vector<uint16_t> joined(const Documents& documents) {
  std::vector<uint16_t> tokens;
  for (const auto& document : documents) {
    tokens.push_back(kBeginToken);
    tokens.insert(tokens.end(), document.begin(), document.end());
  }
  return tokens;
}

std::vector<uint16_t> history_of(SplitMix64& random, int longest) {
  std::vector<uint16_t> history{kBeginToken};
  for (uint64_t i = random.below(static_cast<uint64_t>(longest) + 1); i > 0; --i)
    history.push_back(static_cast<uint16_t>(1 + random.below(kVocabulary - 1)));
  return history;
}

class KneserNeyOfOrder : public testing::TestWithParam<int> {};

TEST_P(KneserNeyOfOrder, IsTheDefinition) {
  const Documents documents = drawn(1, 160, 40);
  const KneserNey model(joined(documents), kVocabulary, GetParam());
  const test::NgramDefinition definition(documents, kVocabulary, GetParam());
  SplitMix64 random(2);
  for (int i = 0; i < 300; ++i) {
    const auto history = history_of(random, 6);
    const auto token = static_cast<uint16_t>(random.below(kVocabulary));
    const double want = definition.probability(history, token);
    EXPECT_NEAR(model.probability(history, token), want, 1e-13 * want) << "case " << i;
  }
}

TEST_P(KneserNeyOfOrder, ProbabilitiesOfAHistorySumToOne) {
  const KneserNey model(joined(drawn(3, 160, 40)), kVocabulary, GetParam());
  SplitMix64 random(4);
  for (int i = 0; i < 100; ++i) {
    const auto history = history_of(random, 6);
    double sum = 0;
    for (uint16_t token = 0; token < kVocabulary; ++token) {
      EXPECT_GT(model.probability(history, token), 0);
      sum += model.probability(history, token);
    }
    EXPECT_NEAR(sum, 1, 1e-13);
  }
}

TEST(KneserNey, TakesItsDiscountsFromCountsOfCounts) {
  // Enough tokens that even single ones have followed one, two, three and four others.
  const Documents documents = drawn(8, 200, 40, 298);
  const KneserNey model(joined(documents), 300, 3);
  const test::NgramDefinition definition(documents, 300, 3);
  SplitMix64 random(9);
  for (int i = 0; i < 40; ++i) {
    const auto& document = documents[5 + static_cast<size_t>(i) % 35];
    std::vector<uint16_t> history{kBeginToken};
    history.insert(history.end(), document.begin(), document.begin() + i % 5);
    const auto token = static_cast<uint16_t>(1 + random.below(random.below(299) + 1));
    const double want = definition.probability(history, token);
    EXPECT_NEAR(model.probability(history, token), want, 1e-13 * want) << "case " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, KneserNeyOfOrder, testing::Values(1, 2, 3, 5));

TEST(KneserNey, ACycleIsKnownOnceSeen) {
  // 1 2 3 ... 9 1 2 3 ..., broken now and then so that every count of counts exists.
  Documents documents = drawn(5, 160, 40);
  std::vector<uint16_t> cycle;
  for (int i = 0; i < 4000; ++i) cycle.push_back(static_cast<uint16_t>(1 + i % 9));
  documents.push_back(cycle);
  const KneserNey model(joined(documents), kVocabulary, 5);
  EXPECT_GT(model.probability(std::vector<uint16_t>{0, 3, 4, 5, 6}, 7), 0.98);
}

TEST(KneserNey, OrdersWhoseCountsSayNothingHaveFixedDiscounts) {
  // (1, 2) and (1, 3) twice each: a discount of 1 of each, so a half is handed on.
  const KneserNey model(joined({{1, 2}, {1, 2}, {1, 3}, {1, 3}}), 4, 2);
  // 1, 2 and 3 each stand behind one other token: 1/2 of each of 3 is kept, 1/2 goes to 1/4.
  const double two = 0.5 / 3 + 0.5 * 0.25;
  EXPECT_DOUBLE_EQ(model.probability(std::vector<uint16_t>{0, 1}, 2), 1.0 / 4 + 0.5 * two);
}

TEST(KneserNey, OnlyTheLastTokensOfAHistoryMatter) {
  const KneserNey model(joined(drawn(6, 160, 40)), kVocabulary, 3);
  EXPECT_EQ(model.probability(std::vector<uint16_t>{0, 9, 9, 2, 1}, 1),
            model.probability(std::vector<uint16_t>{0, 2, 1}, 1));
}

TEST(KneserNey, RefusesWhatItCannotCount) {
  EXPECT_REFUSED("E_UNSUPPORTED", "takes 65 bits",
                 KneserNey(std::vector<uint16_t>{0, 1, 2, 3}, 5000, 5));
  EXPECT_REFUSED("E_FORMAT", "does not begin with token 0",
                 KneserNey(std::vector<uint16_t>{1, 2, 3}, kVocabulary, 2));
  EXPECT_REFUSED("E_POSITION", "token 12", KneserNey(std::vector<uint16_t>{0, 12}, kVocabulary, 2));
}

TEST(Unigram, CountsWithOneMore) {
  const Unigram model(std::vector<uint16_t>{0, 1, 1, 2, 0, 1}, 4);
  const std::vector<uint16_t> history{0};
  EXPECT_DOUBLE_EQ(model.probability(history, 0), 1.0 / 8);
  EXPECT_DOUBLE_EQ(model.probability(history, 1), 4.0 / 8);
  EXPECT_DOUBLE_EQ(model.probability(history, 2), 2.0 / 8);
  EXPECT_DOUBLE_EQ(model.probability(history, 3), 1.0 / 8);
}

TEST(CrossEntropy, IsTheMeanOverAllButBeginTokens) {
  const Unigram model(std::vector<uint16_t>{0, 1, 1, 2, 0, 1}, 4);
  const CrossEntropy got = cross_entropy(model, std::vector<uint16_t>{0, 1, 2, 0, 0, 3});
  EXPECT_EQ(got.tokens, 3);
  EXPECT_DOUBLE_EQ(got.nats, -(std::log(4.0 / 8) + std::log(2.0 / 8) + std::log(1.0 / 8)) / 3);
  EXPECT_REFUSED("E_TEXT_TOO_SHORT", "no token", cross_entropy(model, std::vector<uint16_t>{0, 0}));
}

}  // namespace
}  // namespace kvlab::corpus
