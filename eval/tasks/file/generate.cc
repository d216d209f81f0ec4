// Answers that a model writes.  `context` is prefilled and compressed; `query` and `answer_prefix`
// are fed through the compressed cache (the last token of the context, where they are empty); then
// greedy tokens follow.

#include <algorithm>

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/tasks/file/task_file.h"
#include "eval/tasks/file/types.h"

namespace kvlab::tasks::file {
namespace {

using Ids = std::vector<int32_t>;

class Asking {
 public:
  Asking(const Source& source, const TaskSetup& setup, Tokenizer& tokenizer)
      : source_(source),
        setup_(setup),
        context_("context", source.file.at("context").get<std::string>()),
        query_("query", source.file.at("query").get<std::string>()),
        answer_prefix_("answer_prefix", source.file.at("answer_prefix").get<std::string>()),
        max_new_(source.file.at("max_new_tokens")),
        prompter_(source, setup, tokenizer,
                  [this](const Document& document) { return solved(document); }) {}

  Sample sample(size_t index) {
    const Document& document = source_.docs[index];
    Prompt prompt{prompter_.examples(index) + context_.fill(document), query_.fill(document)};
    prompt = prompter_.in_chat(shortened(std::move(prompt), document), document);
    prompt.rest += answer_prefix_.fill(document);
    PromptTokens tokens = prompter_.encode(prompt);
    KVLAB_REQUIRE(!tokens.context.empty() || !tokens.rest.empty(), "E_FORMAT", document.place,
                  ": the prompt has no token");
    require_positions(std::ssize(tokens.context) + std::ssize(tokens.rest) + max_new_, document,
                      setup_);

    Sample sample{.id = source_.file.at("task").get<std::string>() + "-" + std::to_string(index),
                  .match = "text"};
    sample.context.ids = std::move(tokens.context);
    sample.turns.push_back({.query = {.ids = std::move(tokens.rest)},
                            .max_new_tokens = max_new_,
                            .references = references(document),
                            .stop = source_.file.at("stop"),
                            .first_line = source_.file.at("first_line")});
    if (!source_.file.at("classes").is_null()) sample.meta["classes"] = list("classes", document);
    return sample;
  }

  Json facts() const {
    Json facts = prompter_.facts();
    facts["first_line"] = source_.file.at("first_line");
    facts["max_new_tokens"] = max_new_;
    facts["truncation"] = source_.file.at("truncation");
    facts["truncated_docs"] = truncated_;
    return facts;
  }

 private:
  /// A key that is a template of a list, or a list of templates.
  std::vector<std::string> list(const char* key, const Document& document) const {
    const Json& given = source_.file.at(key);
    if (given.is_string())
      return texts_of(Template(key, given.get<std::string>()).value(document), document, key);
    std::vector<std::string> texts;
    for (const Json& one : given)
      texts.push_back(Template(key, one.get<std::string>()).fill(document));
    return texts;
  }

  std::vector<std::string> references(const Document& document) const {
    return references_of(list("answers", document), document);
  }

  std::string solved(const Document& document) const {
    const auto delimiter = source_.file.at("delimiter").get<std::string>();
    return context_.fill(document) + query_.fill(document) + answer_prefix_.fill(document) +
           delimiter + references(document).front();
  }

  /// Tokens that the prompt may have; 0: no limit.  Unless the file says so, what the model has
  /// beside the answer and what BOS, chat template and answer prefix add.
  int64_t limit(const Document& document) const {
    const Json& given = source_.file.at("max_prompt_tokens");
    if (!given.is_null()) return given;
    const int64_t positions = setup_.shape->max_positions;
    if (positions <= 0) return 0;
    const Prompt around = prompter_.in_chat({}, document);
    const Ids added = prompter_.encode(around.context + answer_prefix_.fill(document));
    return std::max<int64_t>(positions - max_new_ - std::ssize(added), 2);
  }

  /// Of a prompt above the limit the first and the last half of the limit, as text again.
  Prompt shortened(Prompt prompt, const Document& document) {
    const int64_t most = limit(document);
    if (most == 0) return prompt;
    Tokenizer& tokenizer = prompter_.tokenizer();
    const Ids whole = tokenizer.encode(prompt.context + prompt.rest, Tokenizer::Special::none);
    const int64_t tokens = std::ssize(whole), half = most / 2;
    if (tokens <= most) return prompt;
    KVLAB_REQUIRE(source_.file.at("truncation") == "middle", "E_CONTEXT_TOO_LONG", document.place,
                  ": the prompt has ", tokens, " tokens, the limit is ", most,
                  "; write \"truncation\": \"middle\" to keep its first and last half");
    const Ids context = tokenizer.encode(prompt.context, Tokenizer::Special::none);
    const int64_t end = prompt.rest.empty() ? tokens : std::min(std::ssize(context), tokens);
    KVLAB_REQUIRE(end >= tokens - half, "E_CONTEXT_TOO_LONG", document.place, ": the query has ",
                  tokens - end, " tokens, more than half of the limit of ", most);
    ++truncated_;
    const std::span<const int32_t> all(whole);
    const auto from = static_cast<size_t>(tokens - half);
    prompt.context = tokenizer.decode(all.first(static_cast<size_t>(half))) +
                     tokenizer.decode(all.subspan(from, static_cast<size_t>(end) - from));
    return prompt;
  }

  const Source& source_;
  const TaskSetup& setup_;
  Template context_, query_, answer_prefix_;
  int64_t max_new_;
  Prompter prompter_;
  int64_t truncated_ = 0;
};

/// The best that a metric gives a reference itself; -1: it says nothing of text.
double of_a_right_answer(const Metric& metric, const Sample& sample) {
  double best = -1;
  if (!metric.shares) return best;
  for (const std::string& reference : sample.turns[0].references) {
    const Outcome outcome{.generated = {{0}},
                          .answers = {{}},
                          .texts = {reference},
                          .references = {sample.turns[0].references},
                          .meta = sample.meta};
    const std::vector<Share> shares = metric.shares(outcome, &outcome);
    if (!shares.empty()) best = std::max(best, pooled(shares));
  }
  return best;
}

/// How many documents no answer can score on: a reference that is all punctuation for qa_f1, ...
Json unanswerable(const Source& source, const std::vector<Sample>& samples) {
  Json counts = Json::object();
  for (const std::string& name : metrics_of(source.file, source.name)) {
    const Metric& metric = catalogue().metric(name);
    const bool is_score = metric.better == Better::higher;
    const auto hopeless = std::ranges::count_if(samples, [&](const Sample& sample) {
      const double score = of_a_right_answer(metric, sample);
      return score < 0 || (is_score && score == 0);
    });
    KVLAB_REQUIRE(hopeless < std::ssize(samples), "E_CONFIG", source.name, ": metric `", name,
                  "` gives no right answer a point: it does not judge what is generated, or the ",
                  "documents lack what it needs (`classes`)");
    if (hopeless > 0) counts[name] = hopeless;
  }
  return counts;
}

}  // namespace

Made make_generate(const Source& source, const TaskSetup& setup) {
  const std::shared_ptr<Tokenizer> tokenizer = setup.tokenizer();
  Asking asking(source, setup, *tokenizer);
  Made made{.work = {.protocol = "decode",
                     .query_aware = true,
                     .tokenizer_sha = tokenizer->sha256(),
                     .tokenizer = tokenizer}};
  for (size_t i = 0; i < source.docs.size(); ++i) made.samples.push_back(asking.sample(i));
  made.work.facts = asking.facts();
  if (Json none = unanswerable(source, made.samples); !none.empty())
    made.work.facts["unanswerable_docs"] = none;
  return made;
}

}  // namespace kvlab::tasks::file
