// Samples that task files make of their documents, token by token.

#include <gmock/gmock.h>

#include <fstream>
#include <set>

#include "eval/catalogue.h"
#include "eval/experiment/config.h"
#include "eval/random.h"
#include "eval/rules.h"
#include "eval/run_sample.h"
#include "kernels/cpu_engine.h"
#include "tests/eval/models/cached.h"
#include "tests/eval/tasks/file/bytes_tokenizer.h"
#include "tests/support/examples.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::BytesTokenizer;
using testing::Contains;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;
using testing::SizeIs;
using Ids = std::vector<int32_t>;
constexpr int32_t kBos = BytesTokenizer::kBos, kAb = BytesTokenizer::kAb;

class FileTask : public testing::Test {
 protected:
  Work prepare(const Json& file, const std::vector<Json>& docs,
               const Json& params = Json::object()) {
    std::ofstream(folder_ / "t.json") << file;
    write("d.jsonl", docs);
    Json task{{"task_file", "t.json"}};
    task.update(params);
    const TaskSpec spec = parse_task(task, catalogue());
    return catalogue().task(spec.name).prepare(
        {.params = &spec.params,
         .shape = &shape_,
         .begin_token = begin_token_,
         .tokenizer = [this] { return tokenizer_; },
         .locate = [this](const auto& path) { return folder_.path() / path; }});
  }
  void write(const std::string& name, const std::vector<Json>& docs) {
    std::ofstream file(folder_ / name);
    for (const Json& one : docs) file << one << '\n';
  }
  Ids ids(std::string_view text, Tokenizer::Special special = Tokenizer::Special::none) {
    return tokenizer_->encode(text, special);
  }
  Ids start_of(std::string_view text) { return ids(text, Tokenizer::Special::as_model); }

  static Json choice_file(const Json& more = Json::object()) {
    Json file{{"task", "mc"},      {"type", "multiple_choice"}, {"docs", "d.jsonl"},
              {"context", "{q}"},  {"choices", "{c}"},          {"gold", "{g}"},
              {"metrics", {"acc"}}};
    file.update(more);
    return file;
  }
  static Json generate_file(const Json& more = Json::object()) {
    Json file{{"task", "gen"},    {"type", "generate"},   {"docs", "d.jsonl"},  {"context", "{c}"},
              {"answers", "{a}"}, {"metrics", {"qa_f1"}}, {"max_new_tokens", 4}};
    file.update(more);
    return file;
  }

  test::Scratch folder_{};
  std::shared_ptr<BytesTokenizer> tokenizer_ = std::make_shared<BytesTokenizer>();
  ModelShape shape_ = [] {
    ModelShape made;
    made.vocab_size = BytesTokenizer::kVocab;
    return made;
  }();
  int32_t begin_token_ = -1;
};

Ids joined(const Ids& a, const Ids& b) {
  Ids all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

using MultipleChoice = FileTask;

TEST_F(MultipleChoice, HoldsBackTheLastTokenOfTheContext) {
  const Work work = prepare(choice_file(), {{{"q", "Q:"}, {"c", {"yes", "no"}}, {"g", 1}}});
  ASSERT_EQ(work.count, 1);
  const Sample sample = work.sample(0);
  EXPECT_THAT(sample.context.ids, ElementsAre(kBos, 'Q'));
  EXPECT_TRUE(sample.turns_restart);
  ASSERT_THAT(sample.turns, SizeIs(2));
  EXPECT_THAT(sample.turns[0].query.ids, ElementsAre(':', ' ', 'y', 'e'));
  EXPECT_THAT(sample.turns[0].query.labels, ElementsAre(' ', 'y', 'e', 's'));
  EXPECT_THAT(sample.turns[1].query.ids, ElementsAre(':', ' ', 'n'));
  EXPECT_THAT(sample.turns[1].query.labels, ElementsAre(' ', 'n', 'o'));
  EXPECT_EQ(sample.meta.at("gold"), 1);
  EXPECT_EQ(sample.meta.at("choices").at(0),
            Json({{"text", "yes"}, {"characters", 3}, {"bytes", 3}}));
}

TEST_F(MultipleChoice, WhiteSpaceAtTheEndOfTheContextBelongsToTheContinuation) {
  const Work work =
      prepare(choice_file({{"delimiter", ""}}), {{{"q", "Q \n"}, {"c", {"x", "y"}}, {"g", 0}}});
  const Sample sample = work.sample(0);
  EXPECT_THAT(sample.context.ids, ElementsAre(kBos));
  EXPECT_THAT(sample.turns[0].query.labels, ElementsAre(' ', '\n', 'x'));
}

TEST_F(MultipleChoice, ContinuationsAreWhatFollowsAsManyTokensAsTheContextHas) {
  // "a" + "bcab" is ab, c, ab: of these a context of two tokens (BOS, a) leaves two.
  const Work work =
      prepare(choice_file({{"delimiter", ""}}), {{{"q", "a"}, {"c", {"bcab", "xy"}}, {"g", 0}}});
  const Sample sample = work.sample(0);
  EXPECT_THAT(sample.context.ids, ElementsAre(kBos));
  EXPECT_THAT(sample.turns[0].query.ids, ElementsAre('a', 'c'));
  EXPECT_THAT(sample.turns[0].query.labels, ElementsAre('c', kAb));
  EXPECT_THAT(sample.turns[1].query.labels, ElementsAre('x', 'y'));
}

TEST_F(MultipleChoice, AContinuationThatAddsNoTokenIsRefused) {
  EXPECT_REFUSED(
      "E_FORMAT", "d.jsonl, line 1: \"b\" adds no token",
      prepare(choice_file({{"delimiter", ""}}), {{{"q", "a"}, {"c", {"b", "c"}}, {"g", 0}}}));
}

TEST_F(MultipleChoice, TokensPutBehindATextAreLeftOut) {
  tokenizer_->adds_end = true;
  const Work work = prepare(choice_file(), {{{"q", "Q:"}, {"c", {"yes", "no"}}, {"g", 1}}});
  EXPECT_THAT(work.sample(0).context.ids, ElementsAre(kBos, 'Q'));
  EXPECT_THAT(work.sample(0).turns[1].query.labels, ElementsAre(' ', 'n', 'o'));
}

TEST_F(MultipleChoice, MutualInformationScoresTheSameTokensFromNothing) {
  const Work work = prepare(choice_file({{"metrics", {"acc_pmi"}}}),
                            {{{"q", "Q:"}, {"c", {"yes", "no"}}, {"g", 0}}});
  const Sample sample = work.sample(0);
  ASSERT_THAT(sample.turns, SizeIs(4));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_FALSE(sample.turns[i].from_nothing);
    EXPECT_TRUE(sample.turns[2 + i].from_nothing);
    EXPECT_EQ(sample.turns[2 + i].query.labels, sample.turns[i].query.labels);
  }
  EXPECT_THAT(sample.turns[3].query.ids, ElementsAre(kBos, ' ', 'n'));
}

TEST_F(MultipleChoice, MutualInformationNeedsABos) {
  tokenizer_->adds_bos = false;
  const std::vector<Json> docs{{{"q", "Q:"}, {"c", {"yes", "no"}}, {"g", 0}}};
  EXPECT_REFUSED("E_CONFIG", "leave acc_pmi out",
                 prepare(choice_file({{"metrics", {"acc_pmi"}}}), docs));
  begin_token_ = 5;
  const Sample sample = prepare(choice_file({{"metrics", {"acc_pmi"}}}), docs).sample(0);
  EXPECT_EQ(sample.turns[2].query.ids[0], 5);
  EXPECT_THAT(sample.context.ids, ElementsAre('Q'));  // the tokenizer adds none to a text
}

TEST_F(MultipleChoice, AnEmptyContextStartsFromBos) {
  tokenizer_->adds_bos = false;
  const std::vector<Json> docs{{{"q", ""}, {"c", {"x", "y"}}, {"g", 0}}};
  EXPECT_REFUSED("E_FORMAT", "d.jsonl, line 1", prepare(choice_file(), docs));
  begin_token_ = 5;
  const Sample sample = prepare(choice_file(), docs).sample(0);
  EXPECT_THAT(sample.context.ids, IsEmpty());
  EXPECT_THAT(sample.turns[0].query.ids, ElementsAre(5, ' '));
  EXPECT_THAT(sample.turns[0].query.labels, ElementsAre(' ', 'x'));
}

TEST_F(MultipleChoice, ChoicesMayBeTemplatesOfTheFile) {
  const Work work = prepare(choice_file({{"choices", {"{x}", "{{y}}"}}, {"gold", 1}}),
                            {{{"q", "Q"}, {"x", "one"}}});
  EXPECT_EQ(work.sample(0).meta.at("choices").at(0).at("text"), "one");
  EXPECT_EQ(work.sample(0).meta.at("choices").at(1).at("text"), "{y}");
  EXPECT_EQ(work.sample(0).meta.at("gold"), 1);
}

TEST_F(MultipleChoice, RefusesQuestionsThatAreNone) {
  const auto refuse = [this](const Json& choices, const Json& gold) {
    return prepare(choice_file(), {{{"q", "Q"}, {"c", {"x", "y"}}, {"g", 0}},
                                   {{"q", "Q"}, {"c", choices}, {"g", gold}}});
  };
  EXPECT_REFUSED("E_FORMAT", "d.jsonl, line 2: 1 choices", refuse({"x"}, 0));
  EXPECT_REFUSED("E_FORMAT", "d.jsonl, line 2: a continuation is empty", refuse({"x", ""}, 0));
  EXPECT_REFUSED("E_FORMAT", "d.jsonl, line 2: `gold` is 2", refuse({"x", "y"}, 2));
  shape_.max_positions = 6;
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "d.jsonl, line 2: it takes 7 positions, the model has 6",
                 refuse({"x", "12345"}, 0));
}

/// Log-likelihoods as if a model had given them, spread over the tokens of each turn.
Outcome as_scored(const Sample& sample, const std::vector<double>& ll) {
  Outcome outcome{.meta = sample.meta};
  for (size_t turn = 0; turn < sample.turns.size(); ++turn) {
    const Ids& labels = sample.turns[turn].query.labels;
    for (const int32_t label : labels) {
      outcome.nll.push_back(-ll[turn] / static_cast<double>(labels.size()));
      outcome.labels.push_back(label);
      outcome.predicted.push_back(0);
    }
    outcome.turn_scored.push_back(std::ssize(labels));
  }
  return outcome;
}

TEST_F(MultipleChoice, MetricsSeeWhatTheFileAsked) {
  const std::vector<std::string> names{"acc", "acc_norm", "acc_bytes", "acc_pmi", "brier"};
  const double wanted[] = {0, 1, 1, 0, 1.0791952};
  const Work work = prepare(choice_file({{"metrics", names}}),
                            {{{"q", "Q:"}, {"c", {"cat", "elephant", "über"}}, {"g", "elephant"}}});
  const Outcome outcome = as_scored(work.sample(0), {-3.0, -4.2, -4.0, -5, -7, -8});
  ASSERT_THAT(work.metrics, ElementsAre("choice_acc", "acc_norm", "acc_bytes", "acc_pmi", "brier"));
  for (size_t i = 0; i < names.size(); ++i)
    EXPECT_NEAR(pooled(catalogue().metric(work.metrics[i]).shares(outcome, nullptr)), wanted[i],
                1e-7)
        << names[i];
}

TEST_F(MultipleChoice, LikelihoodIsAQuestionWithOneChoice) {
  const Json file{{"task", "ll"},
                  {"type", "loglikelihood"},
                  {"docs", "d.jsonl"},
                  {"context", "{q}"},
                  {"continuation", "{w}"}};
  const Work work = prepare(file, {{{"q", "so"}, {"w", "on"}}});
  EXPECT_THAT(work.metrics, ElementsAre("is_greedy", "target_ppl"));
  const Sample sample = work.sample(0);
  ASSERT_THAT(sample.turns, SizeIs(1));
  EXPECT_THAT(sample.turns[0].query.labels, ElementsAre(' ', 'o', 'n'));
  EXPECT_EQ(sample.meta.at("gold"), 0);
}

using FewShot = FileTask;

TEST_F(FewShot, DrawsExamplesOfTheirOwnFileForEachDocument) {
  std::vector<Json> train;
  for (const char* q : {"0", "1", "2", "3", "4"})
    train.push_back({{"q", q}, {"c", {"x", "y"}}, {"g", 1}});
  write("train.jsonl", train);
  const Json fewshot{{"n", 2}, {"from", "train.jsonl"}, {"separator", "|"}, {"seed", 3}};
  const Work work = prepare(
      choice_file({{"fewshot", fewshot}, {"delimiter", "="}}),
      {{{"q", "Q"}, {"c", {"x", "y"}}, {"g", 0}}, {{"q", "R"}, {"c", {"x", "y"}}, {"g", 0}}});
  for (const uint64_t index : {0, 1}) {
    const auto drawn = random_stream(3, "mc", index).sample_range(0, 5, 2);
    const std::string text = std::to_string(drawn[0]) + "=y|" + std::to_string(drawn[1]) + "=y|";
    EXPECT_EQ(work.sample(static_cast<int64_t>(index)).context.ids, start_of(text));
  }
  EXPECT_THAT(work.facts.at("files"), SizeIs(3));
}

TEST_F(FewShot, NeverShowsADocumentItsOwnAnswer) {
  std::vector<Json> docs;
  for (const char* q : {"0", "1", "2"}) docs.push_back({{"q", q}, {"c", {"x", "y"}}, {"g", 1}});
  const Json fewshot{{"n", 2}, {"separator", "|"}};
  const Work work = prepare(choice_file({{"fewshot", fewshot}}), docs);
  for (int64_t i = 0; i < 3; ++i) {
    const Ids context = work.sample(i).context.ids;
    EXPECT_EQ(std::ranges::count(context, '0' + i), 0) << "it is the token held back";
    EXPECT_EQ(work.sample(i).turns[0].query.ids[0], '0' + i);
  }
  EXPECT_REFUSED("E_CONFIG", "3 examples, but there are 2",
                 prepare(choice_file({{"fewshot", {{"n", 3}}}}), docs));
}

using Chat = FileTask;

TEST_F(Chat, APlainTemplateStandsAroundThePrompt) {
  const Work work = prepare(generate_file({{"query", "?"}, {"chat_template", "[I]{prompt}[/I]"}}),
                            {{{"c", "text"}, {"a", "x"}}});
  const Sample sample = work.sample(0);
  EXPECT_EQ(sample.context.ids, start_of("[I]text"));
  EXPECT_EQ(sample.turns[0].query.ids, ids("?[/I]"));
  EXPECT_EQ(work.facts.at("chat_template"), "[I]{prompt}[/I]");
}

TEST_F(Chat, TheModelsOwnPutsItsBosItself) {
  const Work work =
      prepare(generate_file({{"query", " q "}, {"chat_template", "model"}, {"answer_prefix", ">"}}),
              {{{"c", "  text"}, {"a", "x"}}});
  const Sample sample = work.sample(0);
  EXPECT_EQ(sample.context.ids, ids("<u>text"));
  EXPECT_EQ(sample.turns[0].query.ids, ids(" q</u><a>>"));
  EXPECT_EQ(work.facts.at("chat_template_makes"), "<u>{prompt}</u><a>");
  EXPECT_EQ(work.facts.at("bos"), "none");
}

TEST_F(Chat, OtherTemplatesAreRefused) {
  for (const char* text : {"{{ messages[0] }}", "", "{prompt}{prompt}", "{q}"})
    EXPECT_REFUSED("E_CONFIG", "\"model\" or text with {prompt} in it, once",
                   prepare(generate_file({{"chat_template", text}}), {{{"c", "t"}, {"a", "x"}}}));
}

using Generate = FileTask;

TEST_F(Generate, TheQueryFollowsTheContextThroughTheCache) {
  const Work work = prepare(generate_file({{"query", "{q}"},
                                           {"answer_prefix", "A:"},
                                           {"stop", {"\n"}},
                                           {"first_line", true},
                                           {"classes", "{k}"}}),
                            {{{"c", "context"}, {"q", "?"}, {"a", {"x", "y"}}, {"k", {"x", "z"}}}});
  const Sample sample = work.sample(0);
  EXPECT_EQ(sample.context.ids, start_of("context"));
  ASSERT_THAT(sample.turns, SizeIs(1));
  const Turn& turn = sample.turns[0];
  EXPECT_EQ(turn.query.ids, ids("?A:"));
  EXPECT_EQ(turn.max_new_tokens, 4);
  EXPECT_THAT(turn.references, ElementsAre("x", "y"));
  EXPECT_THAT(turn.stop, ElementsAre("\n"));
  EXPECT_TRUE(turn.first_line);
  EXPECT_EQ(sample.meta.at("classes"), Json({"x", "z"}));
  EXPECT_EQ(work.tokenizer, tokenizer_);
  EXPECT_TRUE(work.query_aware);
  EXPECT_EQ(work.facts.at("stop"), Json({"\n"}));
}

TEST_F(Generate, ContextAndQueryAreTokensOfOneText) {
  const Work work =
      prepare(generate_file({{"query", "bc"}}), {{{"c", "xa"}, {"a", "x"}}});  // x, ab, c
  EXPECT_THAT(work.sample(0).context.ids, ElementsAre(kBos, 'x', kAb));
  EXPECT_THAT(work.sample(0).turns[0].query.ids, ElementsAre('c'));
}

TEST_F(Generate, ALongPromptKeepsItsFirstAndLastHalf) {
  const Json file =
      generate_file({{"query", "QQ"}, {"truncation", "middle"}, {"max_prompt_tokens", 8}});
  const Work work = prepare(file, {{{"c", "0123456789"}, {"a", "x"}}, {{"c", "0123"}, {"a", "x"}}});
  EXPECT_EQ(work.sample(0).context.ids, start_of("012389"));
  EXPECT_EQ(work.sample(0).turns[0].query.ids, ids("QQ"));
  EXPECT_EQ(work.sample(1).context.ids, start_of("0123"));
  EXPECT_EQ(work.facts.at("truncated_docs"), 1);
}

TEST_F(Generate, ALongPromptIsRefusedUnlessItMayBeCut) {
  const std::vector<Json> docs{{{"c", "0123"}, {"a", "x"}}, {{"c", "0123456789"}, {"a", "x"}}};
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "d.jsonl, line 2: the prompt has 10 tokens, the limit is 8",
                 prepare(generate_file({{"max_prompt_tokens", 8}}), docs));
  shape_.max_positions = 10;  // less 4 that are generated and a BOS
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "the limit is 5", prepare(generate_file(), docs));
  const Work cut = prepare(generate_file({{"truncation", "middle"}}), docs);
  EXPECT_EQ(cut.sample(1).context.ids, start_of("0189"));
  const Json beyond{{"truncation", "middle"}, {"max_prompt_tokens", 8}};
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "d.jsonl, line 2: it takes 13 positions, the model has 10",
                 prepare(generate_file(beyond), docs));
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "more than half",
                 prepare(generate_file({{"truncation", "middle"}, {"query", "12345"}}), docs));
}

TEST_F(Generate, WithoutAReferenceNothingCanBeScored) {
  EXPECT_REFUSED(
      "E_NO_REFERENCE", "d.jsonl, line 2",
      prepare(generate_file(), {{{"c", "t"}, {"a", "x"}}, {{"c", "t"}, {"a", Json::array()}}}));
}

TEST_F(Generate, SaysHowManyDocumentsNoAnswerCanScoreOn) {
  const Work work =
      prepare(generate_file(), {{{"c", "t"}, {"a", "The!"}}, {{"c", "t"}, {"a", "x"}}});
  EXPECT_EQ(work.facts.at("unanswerable_docs"), Json({{"qa_f1", 1}}));
}

TEST_F(Generate, RefusesMetricsThatDoNotJudgeText) {
  const std::vector<Json> docs{{{"c", "t"}, {"a", "x"}}};
  for (const char* metric : {"choice_acc", "token_acc", "exact", "ppl", "word_ppl", "se_iid"})
    EXPECT_REFUSED("E_CONFIG", "does not judge what is generated",
                   prepare(generate_file({{"metrics", {metric}}}), docs));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `rouge_l`?",
                 prepare(generate_file({{"metrics", {"rouge_ll"}}}), docs));
}

using WholeDocuments = FileTask;

Json perplexity_file(const Json& more = Json::object()) {
  Json file{{"task", "p"}, {"type", "perplexity"}, {"docs", "d.jsonl"}};
  file.update(more);
  return file;
}

int64_t sum_of(const Work& work, const char* unit) {
  int64_t sum = 0;
  for (int64_t i = 0; i < work.count; ++i) sum += work.sample(i).meta.at(unit).get<int64_t>();
  return sum;
}

TEST_F(WholeDocuments, AreMeasuredWhereEveryTokenIsScored) {
  begin_token_ = kBos;
  const Work work = prepare(perplexity_file(), {{{"text", "ab ü  c"}}, {{"text", " x "}}});
  ASSERT_EQ(work.count, 2);
  EXPECT_EQ(work.protocol, "stream");
  EXPECT_EQ(work.query_chunk, 1);
  EXPECT_THAT(joined(work.sample(0).context.ids, work.sample(0).turns[0].query.ids),
              ElementsAre(kBos, kAb, ' ', 0xC3, 0xBC, ' ', ' '));
  EXPECT_EQ(work.sample(0).meta.at("bytes"), 8);
  EXPECT_EQ(work.sample(0).meta.at("words"), 3);
  EXPECT_EQ(work.sample(1).meta.at("bytes"), 3);
  EXPECT_EQ(work.sample(1).meta.at("words"), 1);
  EXPECT_THAT(work.metrics, Contains("bits_per_byte"));
}

TEST_F(WholeDocuments, AddUpOverTheirWindows) {
  begin_token_ = kBos;
  const std::string text = "one two  three four, five six";
  const Work work = prepare(perplexity_file({{"protocol", "rolling(4)"}}), {{{"text", text}}});
  EXPECT_EQ(work.count, (std::ssize(text) + 3) / 4);
  EXPECT_EQ(sum_of(work, "bytes"), std::ssize(text));
  EXPECT_EQ(sum_of(work, "words"), 6);
}

TEST_F(WholeDocuments, CountOnlyWhatIsScored) {
  tokenizer_->adds_bos = false;
  // Of 0..9 four are prefilled, x_4 is fed unscored, and three are scored.
  const Work work =
      prepare(perplexity_file({{"protocol", "decode(4,3)"}}), {{{"text", "012 4 6789"}}});
  ASSERT_EQ(work.count, 1);
  EXPECT_EQ(work.sample(0).meta.at("bytes"), 3);  // " 67"
  EXPECT_EQ(work.sample(0).meta.at("words"), 1);
}

TEST_F(WholeDocuments, ThatAreTooShortAreNamed) {
  tokenizer_->adds_bos = false;
  EXPECT_REFUSED("E_TEXT_TOO_SHORT", "d.jsonl, line 2: ",
                 prepare(perplexity_file({{"protocol", "decode(4,3)"}}),
                         {{{"text", "0123456789"}}, {{"text", "0123456"}}}));
  EXPECT_REFUSED("E_CONFIG", "names no BOS",
                 prepare(perplexity_file({{"bos", "text_start"}}), {{{"text", "0123456789"}}}));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `stream`?",
                 prepare(perplexity_file({{"protocol", "steam"}}), {{{"text", "0123"}}}));
}

using Tokens = FileTask;

Json tokens_file(const Json& more = Json::object()) {
  Json file{{"task", "tok"}, {"type", "tokens"}, {"docs", "d.jsonl"}};
  file.update(more);
  return file;
}

TEST_F(Tokens, AreFedAsTheyStand) {
  tokenizer_.reset();
  const Work work = prepare(
      tokens_file(), {{{"context_ids", {1, 2, 3}}, {"query_ids", {4, 5}}, {"labels", {-1, 6}}},
                      {{"context_ids", {1}}, {"query_ids", {4, 5}}, {"labels", {7, -1, 6}}}});
  EXPECT_THAT(work.sample(0).context.ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(work.sample(0).turns[0].query.labels, ElementsAre(-1, 6));
  EXPECT_THAT(work.sample(1).context.labels, ElementsAre(7));
  EXPECT_THAT(work.sample(1).turns[0].query.labels, ElementsAre(-1, 6));
  EXPECT_EQ(work.tokenizer_sha, "");
}

TEST_F(Tokens, MayHaveSomeForAnEncoder) {
  const Json document{{"context_ids", {1}}, {"query_ids", {4}}, {"labels", {6}}, {"src", {7, 8}}};
  EXPECT_THAT(prepare(tokens_file({{"encoder_ids", "{src}"}}), {document}).sample(0).encoder_tokens,
              ElementsAre(7, 8));
  EXPECT_THAT(prepare(tokens_file(), {document}).sample(0).encoder_tokens, ElementsAre());
  EXPECT_REFUSED("E_POSITION", "`encoder_ids`: 258",
                 prepare(tokens_file({{"encoder_ids", "{src}"}}),
                         {Json{{"context_ids", {1}}, {"src", {258}}}}));
}

TEST_F(Tokens, MayBeAnswered) {
  const Work work =
      prepare(tokens_file({{"labels", nullptr}, {"query_ids", nullptr}, {"answer_ids", "{a}"}}),
              {{{"context_ids", {1, 2}}, {"a", {8, 9}}}});
  EXPECT_THAT(work.sample(0).turns[0].answer, ElementsAre(8, 9));
  EXPECT_EQ(work.sample(0).turns[0].max_new_tokens, 2);
  EXPECT_THAT(work.metrics, ElementsAre("token_acc", "exact"));
}

TEST_F(Tokens, RefuseWhatCannotBeScored) {
  const auto refuse = [this](const Json& context, const Json& query, const Json& labels) {
    return prepare(tokens_file(),
                   {{{"context_ids", context}, {"query_ids", query}, {"labels", labels}}});
  };
  EXPECT_REFUSED("E_NO_REFERENCE", "d.jsonl, line 1: no label is scored", refuse({1}, {2}, {-1}));
  EXPECT_REFUSED("E_FORMAT", "2 labels for a query of 1", refuse({1, 2}, {2}, {3, 4}));
  EXPECT_REFUSED("E_POSITION", "258 at place 0 is outside 0..257", refuse({258}, {2}, {3}));
  EXPECT_REFUSED("E_POSITION", "-2 at place 0 is outside -1..257", refuse({1}, {2}, {-2}));
  EXPECT_REFUSED("E_NO_REFERENCE", "`answer_ids` holds none",
                 prepare(tokens_file({{"labels", nullptr}, {"max_new_tokens", 3}}),
                         {{{"context_ids", {1}}, {"query_ids", {1}}}}));
}

TEST_F(FileTask, TakesTheFirstDocuments) {
  const std::vector<Json> docs(3, Json{{"q", "Q:"}, {"c", {"yes", "no"}}, {"g", 1}});
  EXPECT_EQ(prepare(choice_file(), docs).count, 3);
  EXPECT_EQ(prepare(choice_file(), docs, {{"samples", 2}}).count, 2);
  EXPECT_EQ(prepare(choice_file(), docs, {{"samples", 9}}).count, 3);
}

TEST_F(FileTask, ChecksThatItsDocumentsAreTheSame) {
  EXPECT_REFUSED("E_FORMAT", "d.jsonl: its SHA-256 is",
                 prepare(choice_file({{"docs_sha256", "00"}}),
                         {{{"q", "Q:"}, {"c", {"yes", "no"}}, {"g", 1}}}));
}

/// Two questions to the model that recalls, whose ids are 32.
class ChoicesOverACache : public FileTask {
 protected:
  ChoicesOverACache() {
    tokenizer_->mask = 0x1F;  // BOS is 0
    shape_ = model_->shape();
  }
  Outcome run(const Json& choices, const Json& method) {
    const Sample sample =
        prepare(choice_file(), {{{"q", "dogxcatydog"}, {"c", choices}, {"g", 0}}}).sample(0);
    const Composition composition =
        compose(parse_methods(method, registry_), model_->shape(), registry_, nullptr, Dtype::f32);
    check_matters(composition, "it", sample, {});
    return run_sample({.model = model_.get(),
                       .composition = &composition,
                       .registry = &registry_,
                       .where = {.engine = make_cpu_engine()}},
                      sample, {});
  }
  const Registry& registry_ = test::all_methods();
  std::unique_ptr<Model> model_ = load_model({{"builtin", "recall2"}});
};

TEST_F(ChoicesOverACache, SeeTheSameCacheInAnyOrder) {
  KVLAB_EXAMPLE("window");
  for (const Json& method :
       {Json("dense"), Json{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 4}}}}}) {
    const Outcome one = run({"cat", "xyz", "go"}, method),
                  other = run({"go", "cat", "xyz"}, method);
    ASSERT_THAT(one.turn_scored, ElementsAre(4, 4, 3));
    ASSERT_THAT(other.turn_scored, ElementsAre(3, 4, 4));
    const std::vector<double>&a = one.nll, &b = other.nll;
    EXPECT_THAT(std::vector(b.begin() + 3, b.end()), ElementsAreArray(a.begin(), a.begin() + 8));
    EXPECT_THAT(std::vector(b.begin(), b.begin() + 3), ElementsAreArray(a.begin() + 8, a.end()));
    EXPECT_EQ(one.end, other.end);
  }
}

TEST_F(ChoicesOverACache, ReadWhatWasCompressed) {
  KVLAB_EXAMPLE("window");
  const Json window{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 4}}}};
  EXPECT_NE(run({"cat", "xyz"}, "dense").nll, run({"cat", "xyz"}, window).nll);
  EXPECT_TRUE(run({"cat", "xyz"}, window).first_scored_after_compress);
}

TEST_F(ChoicesOverACache, AContextOfOneTokenCompressesNothing) {
  KVLAB_EXAMPLE("window");
  tokenizer_->adds_bos = false;
  const Sample sample =
      prepare(choice_file(), {{{"q", "d"}, {"c", {"og", "in"}}, {"g", 0}}}).sample(0);
  const Json window{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 4}}}};
  const Composition composition =
      compose(parse_methods(window, registry_), model_->shape(), registry_, nullptr, Dtype::f32);
  EXPECT_REFUSED("E_METHOD_CANNOT_MATTER", "mc-0",
                 check_matters(composition, "window", sample, {}));
}

}  // namespace
}  // namespace kvlab
