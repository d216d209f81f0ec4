#include "eval/corpus/recall/write.h"

#include <gmock/gmock.h>

#include "core/files.h"
#include "eval/corpus/recall/fit.h"
#include "eval/corpus/tokens.h"
#include "tests/eval/corpus/recall/letters.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab::corpus {
namespace {

using testing::ElementsAre;

std::shared_ptr<Tokenizer> letters() { return std::make_shared<test::Letters>(); }

/// Lengths are in bytes here: some four times what they are with a real tokenizer.
Config config(uint64_t seed = 3) {
  Config config{.seed = seed, .vocabulary = 256};
  config.recall = {
      .lengths = {700, 2500},
      .tokens = {20000, 30000},
      .kinds = {{"lookups", {2, 1}}, {"needles", {1, 1}}, {"repeats", {1, 0}}},
      .tasks = {{.name = "passkey", .params = {{"max_new_tokens", 8}}, .shares = {1, 1}}}};
  return config;
}

TEST(Marked, AreTheTokensThatShareAByteWithAnAnswer) {
  Draft draft;
  draft.add("a");
  draft.answer("bc");
  draft.add("d");
  draft.answer("e");
  EXPECT_EQ(draft.text(), "abcde");
  EXPECT_THAT(marked(*letters(), draft).marks, ElementsAre(0, 1, 1, 0, 1));
}

TEST(Fitted, FillsMostOfItsLengthAndNeverMore) {
  for (const Kind& kind : kinds()) {
    int64_t all = 0;
    for (uint64_t i = 0; i < 20; ++i) {
      const Marked made = fitted(*letters(), Source{}, kind, random_stream(1, kind.name, i), 3000);
      EXPECT_LE(made.tokens.size(), 3000U) << kind.name << " " << i;
      all += std::ssize(made.tokens);
    }
    EXPECT_GE(all, 20 * 3000 * 8 / 10) << kind.name;
  }
}

TEST(Fitted, RefusesAKindThatDoesNotFit) {
  EXPECT_REFUSED("E_CONFIG", "kind `lists` takes",
                 fitted(*letters(), Source{}, kinds()[2], SplitMix64(1), 30));
}

TEST(RecallDocuments, EachIsAFunctionOfItsPlace) {
  RecallDocuments forwards(config(), 0, letters(), Source{}), other(config(4), 0, letters(), {});
  RecallDocuments backwards(config(), 0, letters(), Source{});
  std::vector<std::vector<int32_t>> made;
  for (int64_t i = 0; i < 12; ++i) made.push_back(forwards.document(i).tokens);
  for (int64_t i = 12; i-- > 0;)
    EXPECT_EQ(backwards.document(i).tokens, made[static_cast<size_t>(i)]) << i;
  EXPECT_NE(other.document(0).tokens, made[0]);
}

TEST(RecallDocuments, OfATaskEndsWithTheAnswerMarked) {
  Config only = config();
  only.recall.kinds.clear();
  RecallDocuments documents(only, 0, letters(), Source{});
  EXPECT_EQ(documents.kind_of(0), "passkey");
  const Marked made = documents.document(0);
  std::vector<int32_t> answer;
  for (size_t i = 0; i < made.tokens.size(); ++i)
    if (made.marks[i] != 0) answer.push_back(made.tokens[i]);
  const std::string text = letters()->decode(made.tokens), key = letters()->decode(answer);
  EXPECT_EQ(key.size(), 6U);  // a space and five digits
  EXPECT_TRUE(text.ends_with(" The secret number of the gate is" + key + "."));
  EXPECT_NE(text.find("The secret number of the gate is" + key + "."), text.rfind("The secret"));
}

TEST(RecallDocuments, RefusesATaskWithoutRoomForItsAnswers) {
  Config tight = config();
  tight.recall.kinds.clear();
  tight.recall.lengths = {450, 2500};
  tight.recall.tasks[0].params = {{"max_new_tokens", 1}, {"haystack", "prose"}};
  RecallDocuments documents(tight, 0, letters(), Source{});
  const auto all = [&] {
    for (int64_t i = 0; i < 200; ++i) documents.document(i);
  };
  EXPECT_REFUSED("E_CONFIG", "raise its `max_new_tokens`", all());
}

TEST(WriteRecall, WritesDocumentsBackToBackWithAMarkForEachToken) {
  const test::Scratch scratch;
  const Config all = config();
  int64_t reported = 0;
  const Json facts = write_recall(all, letters(), Source{}, scratch.path(),
                                  [&](int64_t done, int64_t) { reported = done; });
  int64_t written = 0;
  for (const size_t place : {0, 1}) {
    const std::string length = std::to_string(all.recall.lengths[place]);
    const auto tokens = read_tokens(scratch / ("recall-" + length + ".bin"), 256);
    const std::string marks = read_file(scratch / ("recall-" + length + ".marks"), 1 << 20);
    ASSERT_EQ(marks.size(), tokens.size());
    EXPECT_GE(std::ssize(tokens), all.recall.tokens[place]);
    EXPECT_EQ(facts.at(length).at("tokens"), tokens.size());
    EXPECT_EQ(facts.at(length).at("marked"), std::ranges::count(marks, '\1'));
    EXPECT_EQ(facts.at(length).at("documents"), std::ranges::count(tokens, 0));
    EXPECT_EQ(std::ranges::count(marks, '\1') + std::ranges::count(marks, '\0'), std::ssize(marks));
    for (size_t i = 0; i < tokens.size(); ++i) EXPECT_TRUE(tokens[i] != 0 || marks[i] == '\0') << i;
    written += std::ssize(tokens);
  }
  EXPECT_EQ(reported, written);
  EXPECT_FALSE(facts.at("2500").at("kinds").contains("repeats"));  // its share there is 0
}

TEST(SampleTexts, AreOfEveryKindAndOfNoTokenizer) {
  Config some = config();
  some.recall.tokenizer_documents = 9;
  const auto texts = sample_texts(some);
  ASSERT_EQ(texts.size(), 9U);
  EXPECT_EQ(sample_texts(some), texts);
  for (const std::string& text : texts) EXPECT_GT(text.size(), 300U);
}

}  // namespace
}  // namespace kvlab::corpus
