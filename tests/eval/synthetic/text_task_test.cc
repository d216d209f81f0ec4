// Length fitting and what becomes of words, with a tokenizer of one token per letter.

#include "eval/synthetic/text_task.h"

#include <gmock/gmock.h>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;

/// A byte is a token; two stand in front of what a model reads.
class Letters final : public Tokenizer {
 public:
  TokenSpans encode_spans(std::string_view text, Special special) override {
    ++calls;
    TokenSpans spans;
    if (special == Special::as_model) spans = {.tokens = {1, 2}, .bytes = {{0, 0}, {0, 0}}};
    for (size_t i = 0; i < text.size(); ++i) {
      spans.tokens.push_back(text[i]);
      spans.bytes.push_back({static_cast<int64_t>(i), static_cast<int64_t>(i) + 1});
    }
    return spans;
  }
  std::string decode(std::span<const int32_t>) override { return ""; }
  const std::string& sha256() const override { return name_; }
  int calls = 0;

 private:
  std::string name_ = "letters";
};

class TextWork : public testing::Test {
 protected:
  Work work(TextTask task, int64_t positions = 0) {
    ModelShape shape;
    shape.max_positions = positions;
    task.name = "task";
    return text_work(
        {.params = &params_, .seed = 5, .shape = &shape, .tokenizer = [&] { return letters_; }},
        std::move(task));
  }
  /// "xxx...", sample i with i more of them, and a question of 4 + 6 tokens.
  static TextTask exes(std::vector<int64_t> lengths, int64_t least = 1) {
    return {.lengths = std::move(lengths),
            .samples_per_length = 4,
            .least_units = least,
            .make = [](SplitMix64&, int64_t index, int64_t units) {
              return TextQuestion{.context = std::string(static_cast<size_t>(units + index), 'x'),
                                  .turns = {{.query = "what", .answer_prefix = "answer"}}};
            }};
  }
  static int64_t tokens(const Sample& sample) {
    auto all = std::ssize(sample.context.ids);
    for (const Turn& turn : sample.turns) all += std::ssize(turn.query.ids) + turn.max_new_tokens;
    return all;
  }

  Json params_{{"max_new_tokens", 8}, {"query_chunk", 3}, {"stop", {"\n"}}};
  std::shared_ptr<Letters> letters_ = std::make_shared<Letters>();
};

TEST_F(TextWork, FillsALengthToTheLastToken) {
  for (const int64_t length : {21, 22, 23, 24, 37, 64, 100}) {
    const Work made = work(exes({length}));
    // 2 + x + 10 + 8 = length; the others go down from there.
    for (int64_t i = 0; i < std::min<int64_t>(4, length - 20); ++i)
      EXPECT_EQ(tokens(made.sample(i)), length) << length << ", sample " << i;
  }
}

TEST_F(TextWork, EachLengthIsFittedByItself) {
  const Work made = work(exes({40, 60}));
  EXPECT_EQ(made.count, 8);
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(tokens(made.sample(i)), i < 4 ? 40 : 60) << i;
}

TEST_F(TextWork, ASampleDoesNotDependOnWhichWereMadeBefore) {
  const Work forwards = work(exes({50})), backwards = work(exes({50}));
  std::vector<Json> a, b;
  for (int64_t i = 0; i < 4; ++i) a.push_back(describe(forwards.sample(i)));
  for (int64_t i = 3; i >= 0; --i) b.insert(b.begin(), describe(backwards.sample(i)));
  EXPECT_EQ(a, b);
  EXPECT_EQ(describe(forwards.sample(2)), a[2]);
}

TEST_F(TextWork, AFittedSampleIsTokenisedOnce) {
  const Work made = work(exes({50}));
  (void)made.sample(1);
  letters_->calls = 0;
  (void)made.sample(1);
  EXPECT_EQ(letters_->calls, 2);  // context and question
}

TEST_F(TextWork, SaysWhatALengthWouldHaveToHold) {
  const Work made = work(exes({40}, 21));  // 2 + 21 + 10 + 8 = 41
  EXPECT_REFUSED("E_HAYSTACK_TOO_SHORT", "`length` is 40, but sample 0 takes 41", made.sample(0));
  const Work enough = work(exes({41}, 21));
  EXPECT_NO_THROW(enough.sample(0));
  EXPECT_REFUSED("E_HAYSTACK_TOO_SHORT", "sample 1 takes 42", enough.sample(1));
}

TEST_F(TextWork, ATokenizerThatMakesNothingOfTheHaystackIsRefused) {
  TextTask empty = exes({100});
  empty.make = [](SplitMix64&, int64_t, int64_t) {
    return TextQuestion{.context = "x", .turns = {{.query = "what"}}};
  };
  EXPECT_REFUSED("E_NO_TOKENIZER", "makes no tokens", work(std::move(empty)).sample(0));
}

TEST_F(TextWork, NoLengthGoesBeyondTheModelsPositions) {
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "a length of 65 tokens, the model has 64",
                 work(exes({32, 65}), 64));
  EXPECT_NO_THROW(work(exes({64}), 64));
}

TEST_F(TextWork, TurnsAddUpUnlessEachRestarts) {
  for (const bool restart : {false, true}) {
    TextTask task = exes({100});
    task.turns_restart = restart;
    task.make = [](SplitMix64&, int64_t, int64_t units) {
      return TextQuestion{.context = std::string(static_cast<size_t>(units), 'x'),
                          .turns = {{.query = "1234"}, {.query = "123456"}}};
    };
    const Sample sample = work(std::move(task)).sample(0);
    // 2 + x + (4 + 8) + (6 + 8), or with the longer turn alone.
    EXPECT_EQ(std::ssize(sample.context.ids), restart ? 86 : 74);
    EXPECT_EQ(sample.turns_restart, restart);
  }
}

TEST_F(TextWork, WordsBecomeTokensAndNeedlesRangesOfThem) {
  TextTask task = exes({60}, 22);
  task.match = "any";
  task.metrics = {"string_match_any"};
  task.make = [](SplitMix64&, int64_t, int64_t units) {
    return TextQuestion{.context = std::string(static_cast<size_t>(units), 'x'),
                        .turns = {{.query = "ab", .answer_prefix = "c", .answers = {"y", "z"}}},
                        .needles = {{0, 3}, {20, 22}}};
  };
  const Work made = work(std::move(task));
  EXPECT_EQ(made.query_chunk, 3);
  EXPECT_TRUE(made.query_aware);
  EXPECT_EQ(made.tokenizer, letters_);
  const Sample sample = made.sample(2);
  EXPECT_EQ(sample.id, "task-2");
  EXPECT_THAT(sample.needles, ElementsAre(Range{2, 5}, Range{22, 24}));
  EXPECT_EQ(std::ssize(sample.context.ids), 49);
  EXPECT_THAT(sample.turns[0].query.ids, ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(sample.turns[0].references, ElementsAre("y", "z"));
  EXPECT_THAT(sample.turns[0].stop, ElementsAre("\n"));
  EXPECT_EQ(sample.turns[0].max_new_tokens, 8);

  const Json record = record_of(sample, "task", 5);
  EXPECT_EQ(record.at("query"), "ab");
  EXPECT_EQ(record.at("answer_prefix"), "c");
  EXPECT_EQ(record.at("answers"), Json({"y", "z"}));
  EXPECT_EQ(record.at("match"), "any");
  EXPECT_EQ(record.at("seed"), 5);
  EXPECT_EQ(record.at("meta").at("n_tokens"), 52);
  EXPECT_EQ(record.at("meta").at("depth"), Json({4, 44}));  // 2 / 49 and 22 / 49
  EXPECT_EQ(record.at("meta").at("needle_spans"), Json({{2, 5}, {22, 24}}));
  EXPECT_FALSE(record.contains("context_ids"));
}

}  // namespace
}  // namespace kvlab
