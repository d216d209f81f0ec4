#include "eval/train/batch.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "tests/eval/train/corpus.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using test::CounterCorpus;

TrainConfig config_of(const Json& stages, uint64_t seed = 1) {
  return parse_train_config({{"schema", "kvlab-train/1"},
                             {"name", "test"},
                             {"model", Json::object()},
                             {"stages", stages},
                             {"seed", seed},
                             {"data", {{"held_out_documents", 4}}},
                             {"loss", {{"answer_weight", 2}, {"other_weight", 0.5}}},
                             {"optimiser", {{"learning_rate", 1}}}});
}
Json stage(int until, int length, int sequences, const Json& shares) {
  return {{"until_step", until},
          {"sequence_length", length},
          {"batch_sequences", sequences},
          {"shares", shares}};
}

class BatchTest : public testing::Test {
 protected:
  CounterCorpus corpus_{};
  TokenSources sources_{corpus_.path(), test::kVocabulary, 0};
};

TEST_F(BatchTest, IsAFunctionOfSeedAndStep) {
  const Json stages{stage(3, 8, 4, {{"text", 0.5}, {"recall-8", 0.5}}),
                    stage(6, 16, 2, {{"text", 1}})};
  TokenSources others(corpus_.path(), test::kVocabulary, 0);
  const TrainConfig config = config_of(stages);
  for (const int64_t step : {5, 0, 2, 3, 5}) {  // in any order
    const Batch one = make_batch(config, sources_, step), two = make_batch(config, others, step);
    EXPECT_EQ(one.ids, two.ids);
    EXPECT_EQ(one.weights, two.weights);
    EXPECT_EQ(one.length, step < 3 ? 8 : 16);
    EXPECT_NE(one.ids, make_batch(config_of(stages, 2), sources_, step).ids);
    EXPECT_NE(one.ids, make_batch(config, sources_, step == 0 ? 1 : step - 1).ids);
  }
}

TEST_F(BatchTest, TakesEveryWindowOfTheTextOnceBeforeAnyTwice) {
  std::vector<uint16_t> text(5000);
  std::iota(text.begin(), text.end(), uint16_t{1});
  test::write_tokens(corpus_.path() / "text-train.bin", text);
  TokenSources sources(corpus_.path(), 6000, 0);
  // 498 windows of 10 beside one another, wherever the first begins; then another order.
  const TrainConfig config = config_of(Json::array({stage(498, 10, 2, {{"text", 1}})}));
  std::vector<int64_t> starts[2];
  for (int64_t step = 0; step < 498; ++step) {
    const Batch batch = make_batch(config, sources, step);
    for (int64_t b = 0; b < 2; ++b) {
      const auto row = batch.ids.begin() + b * 11;
      for (int i = 1; i < 11; ++i) ASSERT_EQ(row[i], row[0] + i);
      starts[step / 249].push_back(row[0]);
    }
    for (const float weight : batch.weights) ASSERT_EQ(weight, 1.0f);
  }
  EXPECT_NE(starts[0], starts[1]);
  for (std::vector<int64_t>& round : starts) {
    std::ranges::sort(round);
    for (size_t i = 1; i < round.size(); ++i) ASSERT_EQ(round[i], round[i - 1] + 10);
  }
}

TEST_F(BatchTest, FillsARowWithWholeDocumentsThatAreNotHeldOut) {
  const TrainConfig config = config_of(Json::array({stage(50, 16, 3, {{"recall-8", 1}})}));
  std::set<int64_t> documents;
  for (int64_t step = 0; step < 50; ++step) {
    const Batch batch = make_batch(config, sources_, step);
    for (int64_t b = 0; b < 3; ++b)
      for (int64_t i = 0; i < 17; ++i) {
        const int64_t place = i % 7, token = batch.ids[static_cast<size_t>(b * 17 + i)];
        if (place == 1) {
          documents.insert(token);
        } else {
          ASSERT_EQ(token, place == 0 ? 0 : 9 + place);
        }
        if (i == 0) continue;
        ASSERT_EQ(batch.weights[static_cast<size_t>(b * 16 + i - 1)], place >= 5 ? 2.0f : 0.5f);
      }
  }
  EXPECT_EQ(documents, (std::set<int64_t>{901, 902, 903, 904, 905, 906, 907, 908}));
}

TEST_F(BatchTest, HoldsItsSharesToWithinOneSequence) {
  const TrainConfig config =
      config_of(Json::array({stage(400, 8, 5, {{"text", 0.7}, {"recall-8", 0.3}})}));
  int64_t all = 0;
  for (int64_t step = 0; step < 400; ++step) {
    const Batch batch = make_batch(config, sources_, step);
    int64_t recall = 0;
    for (int64_t b = 0; b < 5; ++b) recall += batch.ids[static_cast<size_t>(b * 9)] == 0;
    ASSERT_GE(recall, 1);
    ASSERT_LE(recall, 2);
    all += recall;
  }
  EXPECT_NEAR(static_cast<double>(all) / 2000, 0.3, 0.02);  // 4 standard deviations of the rounding
}

TEST(Shuffled, IsAnOrderOfEverySize) {
  for (const uint64_t n : {1u, 2u, 3u, 5u, 16u, 17u, 1000u}) {
    std::set<uint64_t> places;
    for (uint64_t i = 0; i < n; ++i) places.insert(shuffled(i, n, 9));
    EXPECT_EQ(places.size(), n);
    EXPECT_EQ(*places.rbegin(), n - 1);
  }
  std::vector<uint64_t> one, two;
  for (uint64_t i = 0; i < 100; ++i)
    one.push_back(shuffled(i, 100, 1)), two.push_back(shuffled(i, 100, 2));
  EXPECT_NE(one, two);
}

TEST_F(BatchTest, RefusesFilesThatAreNotWhatTheyClaim) {
  const auto source = [&](const char* name) { return sources_.at(name).tokens().size(); };
  EXPECT_REFUSED("E_FILE", "recall-16.bin", source("recall-16"));
  EXPECT_REFUSED("E_CONFIG", "source `code` is not known", source("code"));
  TokenSources small(corpus_.path(), 500, 0),
      begins_otherwise(corpus_.path(), test::kVocabulary, 3);
  EXPECT_REFUSED("E_FORMAT", "token 900 is outside the model's vocabulary, 0..499",
                 small.at("text").tokens());
  EXPECT_REFUSED("E_FORMAT", "must begin with the model's `bos_token_id` = 3",
                 begins_otherwise.at("recall-8").tokens());
  test::write_marks(corpus_.path() / "recall-8.marks", {1, 0});
  TokenSources again(corpus_.path(), test::kVocabulary, 0);
  EXPECT_REFUSED("E_FORMAT", "2 marks for 84 tokens", again.at("recall-8").tokens());
  test::write_marks(corpus_.path() / "text-train.bin", {1, 0, 1});
  EXPECT_REFUSED("E_FORMAT", "3 bytes", again.at("text").tokens());
}

}  // namespace
}  // namespace kvlab
