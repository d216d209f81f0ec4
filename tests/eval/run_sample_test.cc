// Turns, stop strings and needles, on the model that recalls perfectly: after a token it predicts
// what followed that token's last appearance.

#include "eval/run_sample.h"

#include <gmock/gmock.h>

#include "kernels/cpu_engine.h"
#include "tests/eval/models/cached.h"
#include "tests/support/examples.h"

namespace kvlab {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using Ids = std::vector<int32_t>;

/// Token i is the letter 'A' + i.
class Letters final : public Tokenizer {
 public:
  TokenSpans encode_spans(std::string_view text, Special) override {
    TokenSpans spans;
    for (size_t i = 0; i < text.size(); ++i) {
      spans.tokens.push_back(text[i] - 'A');
      spans.bytes.push_back({static_cast<int64_t>(i), static_cast<int64_t>(i) + 1});
    }
    return spans;
  }
  std::string decode(std::span<const int32_t> tokens) override {
    std::string text;
    for (const int32_t token : tokens) {
      const char letter = static_cast<char>('A' + token);
      text += newlines.find(letter) == newlines.npos ? letter : '\n';
    }
    return text;
  }
  std::string newlines{};  // letters that are written as one
  const std::string& sha256() const override { return name_; }

 private:
  std::string name_ = "letters";
};

class RunSample : public testing::Test {
 protected:
  Outcome run(const Sample& sample, const Json& method = "dense", const Feeding& feeding = {}) {
    const Composition composition =
        compose(parse_methods(method, registry_), model_->shape(), registry_, nullptr, Dtype::f32);
    return run_sample({.model = model_.get(),
                       .composition = &composition,
                       .registry = &registry_,
                       .where = {.engine = make_cpu_engine()},
                       .tokenizer = &letters_},
                      sample, feeding);
  }
  static Turn ask(Ids query, int64_t max_new_tokens) {
    return {.query = {.ids = std::move(query)}, .max_new_tokens = max_new_tokens};
  }

  const Registry& registry_ = test::all_methods();
  std::unique_ptr<Model> model_ = load_model({{"builtin", "recall2"}});
  Letters letters_{};
  /// A BCD E.. : B is followed by C, C by D, D by B.
  const Ids context_{0, 1, 2, 3, 1, 4, 5, 6, 7, 8};
};

TEST_F(RunSample, ATurnSeesWhatEarlierTurnsLeft) {
  // 9 is new in the first turn and followed by 20 there.
  Sample sample{.context = {.ids = context_}, .turns = {ask({9, 20, 4}, 1), ask({9}, 1)}};
  EXPECT_THAT(run(sample).generated, ElementsAre(Ids{5}, Ids{20}));
  sample.turns_restart = true;
  EXPECT_THAT(run(sample).generated[1], testing::Not(ElementsAre(20)));
}

TEST_F(RunSample, WhatATurnGeneratedStaysInTheCache) {
  const Outcome outcome = run({.context = {.ids = context_}, .turns = {ask({4}, 2), ask({9}, 1)}});
  EXPECT_THAT(outcome.generated[0], ElementsAre(5, 6));
  // 4, then 5 and 6 as generated, then 9; the last token of the last turn was never fed.
  EXPECT_EQ(outcome.end.tokens, std::ssize(context_) + 4);
}

TEST_F(RunSample, ATurnFromNothingReadsNoContext) {
  Sample sample{.context = {.ids = context_}, .turns_restart = true};
  sample.turns = {{.query = {.ids = {0, 3, 9, 3}, .labels = {-1, -1, -1, 9}}, .from_nothing = true},
                  {.query = {.ids = {3}, .labels = {1}}}};
  const Outcome outcome = run(sample);
  EXPECT_THAT(outcome.turn_scored, ElementsAre(1, 1));
  EXPECT_THAT(outcome.predicted, ElementsAre(9, 1));
  EXPECT_EQ(outcome.end.tokens, std::ssize(context_));
}

TEST_F(RunSample, TextEndsBeforeAStopStringButNotInItsFirstToken) {
  Sample sample{.context = {.ids = context_}, .turns = {ask({4}, 4)}};
  EXPECT_THAT(run(sample).texts, ElementsAre("FGHI"));
  sample.turns[0].stop = {"HI", "I"};
  Outcome outcome = run(sample);
  EXPECT_THAT(outcome.texts, ElementsAre("FG"));
  EXPECT_THAT(outcome.generated[0], ElementsAre(5, 6, 7, 8));
  sample.turns[0].stop = {"F", "G"};
  outcome = run(sample);
  EXPECT_THAT(outcome.texts, ElementsAre("F"));
  EXPECT_THAT(outcome.generated[0], ElementsAre(5, 6));
}

TEST_F(RunSample, AnAnswerMayBeItsFirstLine) {
  // The letters of 5, 6, 7, 8 are F, G, H, I.
  letters_.newlines = {'F', 'H'};
  Sample sample{.context = {.ids = context_}, .turns = {ask({4}, 4)}};
  EXPECT_THAT(run(sample).texts, ElementsAre("\nG\nI"));
  sample.turns[0].first_line = true;
  EXPECT_THAT(run(sample).texts, ElementsAre("G"));
  letters_.newlines = {'F', 'G', 'H', 'I'};
  EXPECT_THAT(run(sample).texts, ElementsAre(""));
}

TEST_F(RunSample, SaysHowMuchOfANeedleEachHeadStillHolds) {
  KVLAB_EXAMPLE("window");
  const Sample sample{
      .context = {.ids = context_}, .turns = {ask({4}, 1)}, .needles = {{1, 3}, {6, 8}}};
  EXPECT_THAT(run(sample).retention, ElementsAre(ElementsAre(1), ElementsAre(1)));
  // Of 10 tokens the first and the newest 3 live, which leaves room for the next query's own row.
  const Json window{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 4}}}};
  const auto kept = run(sample, window).retention;
  EXPECT_THAT(kept, testing::Each(ElementsAre(DoubleNear(0.25, 1e-12))));
}

TEST_F(RunSample, RowsCopiedForATurnAreNoCompression) {
  Sample sample{.context = {.ids = context_}, .turns = {ask({9, 20, 4}, 2), ask({9}, 1)}};
  sample.turns_restart = true;
  EXPECT_EQ(run(sample).compress_events, 0);
}

TEST_F(RunSample, CountsTokensSinceTheLastCompression) {
  KVLAB_EXAMPLE("window");
  Sample sample{.context = {.ids = context_}};
  sample.turns = {{.query = {.ids = {4, 5, 6, 7}, .labels = {5, 6, 7, 8}}}};
  EXPECT_THAT(run(sample).since_event, ElementsAre(0, 0, 0, 0));
  // A window drops its oldest row with every pass; one pass of four tokens has one event before it.
  const Json window{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 3}}}};
  EXPECT_THAT(run(sample, window).since_event, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(run(sample, window, {.query_chunk = 1}).since_event, ElementsAre(1, 1, 1, 1));
  EXPECT_EQ(run(sample, window, {.query_chunk = 2}).compress_events, 3);
}

}  // namespace
}  // namespace kvlab
