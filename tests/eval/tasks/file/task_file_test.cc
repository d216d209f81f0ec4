// What a task file may say.

#include "eval/tasks/file/task_file.h"

#include <gmock/gmock.h>

#include "tests/support/refusal.h"

namespace kvlab::tasks::file {
namespace {

using testing::ElementsAre;

Json of_type(const char* type, Json more = Json::object()) {
  Json file{{"task", "t"}, {"type", type}, {"docs", "d.jsonl"}};
  if (std::string(type) == "multiple_choice")
    file.update({{"context", "{q}"}, {"choices", "{c}"}, {"gold", "{g}"}});
  if (std::string(type) == "loglikelihood")
    file.update({{"context", "{q}"}, {"continuation", "{w}"}});
  if (std::string(type) == "generate")
    file.update(
        {{"context", "{q}"}, {"answers", "{a}"}, {"metrics", {"qa_f1"}}, {"max_new_tokens", 8}});
  file.update(more);
  return file;
}

Json parsed(const Json& file) { return parse_task_file(file.dump(), "t.json"); }

TEST(TaskFile, IsCompletedByItsType) {
  const Json choice = parsed(of_type("multiple_choice"));
  EXPECT_EQ(choice.at("delimiter"), " ");
  EXPECT_EQ(choice.at("fewshot"),
            Json({{"n", 0}, {"from", ""}, {"separator", "\n\n"}, {"seed", 0}}));
  EXPECT_EQ(choice.at("chat_template"), Json());
  EXPECT_EQ(parsed(of_type("perplexity")).at("protocol"), "stream");
  EXPECT_EQ(parsed(of_type("tokens")).at("labels"), "{labels}");
  EXPECT_EQ(parsed(of_type("generate")).at("truncation"), "refuse");
}

TEST(TaskFile, MayStateThatNothingIsGenerated) {
  const Json none{{"stop", Json::array()}, {"max_new_tokens", nullptr}, {"chat_template", nullptr}};
  EXPECT_NO_THROW(parsed(of_type("multiple_choice", none)));
  EXPECT_REFUSED("E_CONFIG", "nothing is generated",
                 parsed(of_type("multiple_choice", {{"stop", {"\n"}}})));
  EXPECT_REFUSED("E_CONFIG", "nothing is generated",
                 parsed(of_type("loglikelihood", {{"max_new_tokens", 4}})));
}

TEST(TaskFile, RefusesUnknownKeysWithTheNearest) {
  EXPECT_REFUSED("E_TASK_UNKNOWN_KEY", "did you mean `choices`?",
                 parsed(of_type("multiple_choice", {{"choises", "x"}})));
  EXPECT_REFUSED("E_TASK_UNKNOWN_KEY", "`fewshot.seperator`; did you mean `separator`?",
                 parsed(of_type("multiple_choice", {{"fewshot", {{"seperator", ""}}}})));
  EXPECT_REFUSED("E_TASK_UNKNOWN_KEY", "`choices`",
                 parsed(of_type("generate", {{"choices", "x"}})));
}

TEST(TaskFile, RefusesTypesItDoesNotKnow) {
  EXPECT_REFUSED("E_CONFIG", "did you mean `generate`?", parsed(of_type("generates")));
  EXPECT_REFUSED("E_CONFIG", "`type` is missing", parsed(Json::object()));
  EXPECT_REFUSED("E_CONFIG", "`type` is missing", parsed(Json::array()));
  EXPECT_REFUSED("E_FORMAT", "t.json", parse_task_file("{", "t.json"));
}

TEST(TaskFile, NeedsWhatIsPartOfTheTask) {
  Json file = of_type("multiple_choice");
  file.erase("gold");
  EXPECT_REFUSED("E_CONFIG", "`gold`", parsed(file));
  EXPECT_REFUSED("E_CONFIG", "`max_new_tokens` (integer) is missing",
                 parsed(of_type("generate", {{"max_new_tokens", nullptr}})));
  EXPECT_REFUSED("E_CONFIG", "`metrics` is empty",
                 parsed(of_type("generate", {{"metrics", Json::array()}})));
  EXPECT_REFUSED("E_CONFIG", "empty string", parsed(of_type("generate", {{"stop", {""}}})));
  EXPECT_REFUSED("E_CONFIG", "truncation", parsed(of_type("generate", {{"truncation", "left"}})));
}

TEST(TaskFile, NamesMetricsAsItsReadersDo) {
  const auto names = [](const Json& file) { return metrics_of(parsed(file), "t.json"); };
  EXPECT_THAT(names(of_type("multiple_choice")), ElementsAre("choice_acc", "acc_norm"));
  EXPECT_THAT(names(of_type("loglikelihood")), ElementsAre("is_greedy", "target_ppl"));
  EXPECT_THAT(names(of_type("tokens")), ElementsAre("acc", "nll", "delta_nll"));
  EXPECT_THAT(names(of_type("tokens", {{"answer_ids", "{a}"}})), ElementsAre("token_acc", "exact"));
  EXPECT_THAT(names(of_type("multiple_choice", {{"metrics", {"brier", "acc"}}})),
              ElementsAre("brier", "choice_acc"));
}

TEST(TaskFile, RefusesMetricsThatMeanNothingForItsType) {
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `acc_norm`?",
                 parsed(of_type("multiple_choice", {{"metrics", {"acc_norms"}}})));
  EXPECT_REFUSED("E_UNKNOWN", "has no metric `qa_f1`",
                 parsed(of_type("loglikelihood", {{"metrics", {"qa_f1"}}})));
  EXPECT_REFUSED("E_CONFIG", "names one twice",
                 parsed(of_type("multiple_choice", {{"metrics", {"acc", "acc"}}})));
}

}  // namespace
}  // namespace kvlab::tasks::file
