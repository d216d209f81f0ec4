#include "eval/tasks/file/task_file.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "core/error.h"
#include "core/schema.h"

namespace kvlab::tasks::file {
namespace {

constexpr const char* kCommon = R"({
  "task": {"type": "string", "doc": "name, for ids of samples"},
  "version": {"type": "integer", "default": 1, "minimum": 0, "doc": "of the task"},
  "type": {"type": "string", "doc": "how it is asked",
           "choices": ["multiple_choice", "loglikelihood", "perplexity", "generate", "tokens"]},
  "docs": {"type": "string", "doc": "JSON Lines, beside the task file"},
  "docs_sha256": {"type": "string", "default": "", "doc": "of that file; empty: any"},
  "metrics": {"type": "array", "items": "string", "default": [],
              "doc": "the headline first; empty: the usual ones of the type"}})";

constexpr const char* kText = R"({
  "bos": {"type": "string", "default": "auto", "choices": ["auto", "none"],
          "doc": "auto: what the tokenizer adds by itself, nothing after the model's chat template"},
  "chat_template": {"type": ["string", "null"], "default": null,
                    "doc": "null: none; model: its tokenizer's; else text around {prompt}"},
  "delimiter": {"type": "string", "default": " ", "doc": "between a context and what follows it"},
  "fewshot": {"type": "object", "default": {}, "doc": "solved examples ahead of the context",
    "fields": {
      "n": {"type": "integer", "default": 0, "minimum": 0, "doc": "how many"},
      "from": {"type": "string", "default": "", "doc": "JSON Lines; empty: docs, less the document"},
      "separator": {"type": "string", "default": "\n\n", "doc": "after each"},
      "seed": {"type": "integer", "default": 0, "minimum": 0, "doc": "of the draw"}}},
  "stop": {"type": "array", "items": "string", "default": [], "doc": "an answer ends before it"},
  "max_new_tokens": {"type": ["integer", "null"], "default": null, "minimum": 1, "unit": "token",
                     "doc": "generated at most; type generate"}})";

constexpr const char* kChoice = R"({
  "context": {"type": "string", "doc": "template of what is prefilled and compressed"},
  "choices": {"type": ["string", "array"], "items": "string", "doc": "template of a list of texts"},
  "gold": {"type": ["string", "integer"], "doc": "template of the right one's index or text"}})";

constexpr const char* kLikelihood = R"({
  "context": {"type": "string", "doc": "template of what is prefilled and compressed"},
  "continuation": {"type": "string", "doc": "template of what should follow"}})";

constexpr const char* kGenerate = R"({
  "context": {"type": "string", "doc": "template of what is prefilled and compressed"},
  "query": {"type": "string", "default": "", "doc": "template of what follows through the cache"},
  "answer_prefix": {"type": "string", "default": "", "doc": "template of how the answer begins"},
  "answers": {"type": ["string", "array"], "items": "string",
              "doc": "template of a text or a list of texts that are right"},
  "classes": {"type": ["string", "array", "null"], "items": "string", "default": null,
              "doc": "template of all classes, for metrics of classification"},
  "first_line": {"type": "boolean", "default": false,
                 "doc": "the answer is the first line that is not empty"},
  "truncation": {"type": "string", "default": "refuse", "choices": ["refuse", "middle"],
                 "doc": "of a prompt above the limit; middle: its first and last half stay"},
  "max_prompt_tokens": {"type": ["integer", "null"], "default": null, "minimum": 2,
                        "unit": "token", "doc": "the limit; null: what the model leaves"}})";

constexpr const char* kPerplexity = R"({
  "text": {"type": "string", "default": "{text}", "doc": "template of the document"},
  "protocol": {"type": "string", "default": "stream", "doc": "decode(P,S), rolling(Lw), stream, .."},
  "bos": {"type": "string", "default": "auto",
          "choices": ["auto", "none", "text_start", "each_window", "replace_first"],
          "doc": "auto: as the protocol says where the tokenizer adds BOS, none otherwise"}})";

constexpr const char* kTokens = R"({
  "context_ids": {"type": "string", "default": "{context_ids}", "doc": "template of a list"},
  "query_ids": {"type": ["string", "null"], "default": "{query_ids}", "doc": "the same; null: none"},
  "encoder_ids": {"type": ["string", "null"], "default": null,
                  "doc": "the same, of a model with an encoder: what that reads; null: none"},
  "labels": {"type": ["string", "null"], "default": "{labels}",
             "doc": "of the query, or of context and query; -1: not scored; null: none"},
  "answer_ids": {"type": ["string", "null"], "default": null, "doc": "what should be generated"},
  "max_new_tokens": {"type": ["integer", "null"], "default": null, "minimum": 1, "unit": "token",
                     "doc": "null: as many as the answer has"}})";

struct Type {
  std::vector<const char*> schemas;
  /// Names in a task file and in the catalogue; empty: any of the catalogue.
  std::map<std::string, std::string, std::less<>> metrics;
  std::vector<std::string> usual;
};

std::map<std::string, std::string, std::less<>> as_they_are(
    std::initializer_list<const char*> names) {
  std::map<std::string, std::string, std::less<>> all;
  for (const char* name : names) all[name] = name;
  return all;
}

const std::map<std::string, Type, std::less<>>& types() {
  static const auto kTypes = [] {
    std::map<std::string, Type, std::less<>> all;
    Type& choice = all["multiple_choice"] = {{kCommon, kText, kChoice}, {}, {"acc", "acc_norm"}};
    choice.metrics = as_they_are({"acc_norm", "acc_bytes", "acc_tok", "acc_pmi", "brier",
                                  "is_greedy", "target_ll", "target_ppl", "delta_nll"});
    choice.metrics["acc"] = "choice_acc";
    Type& likelihood = all["loglikelihood"] = {{kCommon, kText, kLikelihood}, {}, {"acc", "ppl"}};
    likelihood.metrics = as_they_are({"is_greedy", "target_ll", "target_ppl", "delta_nll"});
    likelihood.metrics["acc"] = "is_greedy";
    likelihood.metrics["ppl"] = "target_ppl";
    likelihood.metrics["ll"] = "target_ll";
    all["perplexity"] = {
        {kCommon, kPerplexity},
        as_they_are({"bits_per_byte", "byte_ppl", "word_ppl", "ppl", "nll", "delta_nll",
                     "ppl_ratio", "noise_floor", "se_iid"}),
        {"bits_per_byte", "byte_ppl", "word_ppl", "ppl", "delta_nll", "noise_floor"}};
    all["generate"] = {{kCommon, kText, kGenerate}, {}, {}};
    all["tokens"] = {
        {kCommon, kTokens},
        as_they_are({"acc", "nll", "ppl", "delta_nll", "ppl_ratio", "token_acc", "exact"}),
        {}};
    return all;
  }();
  return kTypes;
}

const Type& type_of(const Json& file) {
  return types().find(file.at("type").get<std::string>())->second;
}

Schema schema_of(const Type& type, std::string_view name) {
  Json merged = Json::object();
  for (const char* part : type.schemas) merged.update(parse_json(part, name));
  return Schema::parse(merged.dump(), name);
}

/// The name of its type, which decides the other keys.
std::string type_named(const Json& given, std::string_view name) {
  const std::string type = given.is_object() && given.contains("type") && given["type"].is_string()
                               ? given["type"].get<std::string>()
                               : "";
  if (types().contains(type)) return type;
  std::vector<std::string> known;
  for (const auto& [one, unused] : types()) known.push_back(one);
  fail(
      "E_CONFIG", name, ": `type` is ",
      given.is_object() && given.contains("type") ? printable(canonical(given["type"])) : "missing",
      suggestion(type, known));
}

void check_generation(const Json& file, std::string_view name) {
  if (!file.contains("stop")) return;
  const bool generates = file.at("type") == "generate";
  KVLAB_REQUIRE(generates || (file.at("stop").empty() && file.at("max_new_tokens").is_null()),
                "E_CONFIG", name, ": nothing is generated by type ", file.at("type").dump(),
                ", so `stop` must be [] and `max_new_tokens` null");
  KVLAB_REQUIRE(!generates || !file.at("max_new_tokens").is_null(), "E_CONFIG", name,
                ": `max_new_tokens` (integer) is missing: it is part of the task");
  KVLAB_REQUIRE(!generates || !file.at("metrics").empty(), "E_CONFIG", name,
                ": `metrics` is empty: say how answers are scored, e.g. [\"qa_f1\"]");
  for (const Json& stop : file.at("stop"))
    KVLAB_REQUIRE(!stop.get<std::string>().empty(), "E_CONFIG", name,
                  ": `stop` holds an empty string, which ends every answer");
}

}  // namespace

Json parse_task_file(std::string_view text, std::string_view name) {
  const Json given = parse_json(text, name);
  const Type& type = types().find(type_named(given, name))->second;
  Json file;
  try {
    file = schema_of(type, name).complete(given, name);
  } catch (const Error& error) {
    if (error.code() != "E_UNKNOWN") throw;
    fail("E_TASK_UNKNOWN_KEY", error.message());
  }
  check_generation(file, name);
  static_cast<void>(metrics_of(file, name));
  return file;
}

std::vector<std::string> metrics_of(const Json& file, std::string_view name) {
  const Type& type = type_of(file);
  std::vector<std::string> names = file.at("metrics");
  if (names.empty()) names = type.usual;
  if (names.empty() && file.at("type") == "tokens")
    names = file.at("answer_ids").is_null() ? std::vector<std::string>{"acc", "nll", "delta_nll"}
                                            : std::vector<std::string>{"token_acc", "exact"};
  KVLAB_REQUIRE(std::set<std::string>(names.begin(), names.end()).size() == names.size(),
                "E_CONFIG", name, ": `metrics` names one twice");
  if (type.metrics.empty()) return names;
  std::vector<std::string> known;
  for (const auto& [one, unused] : type.metrics) known.push_back(one);
  for (std::string& one : names) {
    const auto found = type.metrics.find(one);
    KVLAB_REQUIRE(found != type.metrics.end(), "E_UNKNOWN", name, ": type ", file.at("type").dump(),
                  " has no metric `", printable(one), "`", suggestion(one, known));
    one = found->second;
  }
  return names;
}

}  // namespace kvlab::tasks::file
