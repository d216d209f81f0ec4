// Likelihoods of given continuations, by the rules of lm-evaluation-harness: with C the context,
// whole = tokens(C + continuation), and the continuation's tokens are those of `whole` after as
// many as C alone has.
//
// C but for its last token is prefilled and compressed.  Each choice is fed, with that last token,
// to a fork of that cache: all choices see the same.

#include <algorithm>

#include "core/error.h"
#include "eval/tasks/file/task_file.h"
#include "eval/tasks/file/types.h"
#include "eval/unicode.h"

namespace kvlab::tasks::file {
namespace {

using Ids = std::vector<int32_t>;

class AskingChoices {
 public:
  AskingChoices(const Source& source, const TaskSetup& setup, Tokenizer& tokenizer)
      : source_(source),
        setup_(setup),
        delimiter_(source.file.at("delimiter")),
        context_("context", source.file.at("context").get<std::string>()),
        prompter_(source, setup, tokenizer,
                  [this](const Document& document) { return solved(document); }) {
    const std::vector<std::string> metrics = metrics_of(source.file, source.name);
    wants_alone_ = std::ranges::find(metrics, "acc_pmi") != metrics.end();
  }

  Sample sample(size_t index) const {
    const Document& document = source_.docs[index];
    const Question question = question_of(document);
    Prompt prompt{.context = prompter_.examples(index) + context_.fill(document)};
    prompt = prompter_.in_chat(prompt, document);
    // White space before a continuation is part of its first token.
    std::string between = trailing_space(prompt.context);
    prompt.context.resize(prompt.context.size() - between.size());
    between += delimiter_;
    Ids context = prompter_.encode(prompt.context);
    if (context.empty()) context = prompter_.start();
    KVLAB_REQUIRE(!context.empty(), "E_FORMAT", document.place,
                  ": the context is empty and the model names no BOS token to start from");

    Sample sample{.id = source_.file.at("task").get<std::string>() + "-" + std::to_string(index),
                  .turns_restart = true,
                  .match = "likelihood"};
    Json choices = Json::array();
    std::vector<Turn> alone;
    for (const std::string& choice : question.choices) {
      const Ids tokens = continuation(prompt.context, context.size(), between + choice, document);
      require_positions(std::ssize(context) + std::ssize(tokens) - 1, document, setup_);
      sample.turns.push_back(scoring(context.back(), tokens));
      if (wants_alone_) alone.push_back(from_nothing(tokens, document));
      choices.push_back(
          {{"text", choice}, {"characters", code_points(choice).size()}, {"bytes", choice.size()}});
    }
    sample.turns.insert(sample.turns.end(), alone.begin(), alone.end());
    sample.context.ids = {context.begin(), context.end() - 1};
    sample.meta = {{"choices", choices}, {"gold", question.gold}};
    return sample;
  }

  Json facts() const { return prompter_.facts(); }

 private:
  struct Question {
    std::vector<std::string> choices;
    size_t gold = 0;
  };

  Question question_of(const Document& document) const {
    const Json& file = source_.file;
    if (file.at("type") == "loglikelihood")
      return {{checked(
          Template("continuation", file.at("continuation").get<std::string>()).fill(document),
          document)}};
    Question question;
    if (file.at("choices").is_string()) {
      const Template choices("choices", file.at("choices").get<std::string>());
      question.choices = texts_of(choices.value(document), document, "choices");
    } else {
      for (const Json& one : file.at("choices"))
        question.choices.push_back(Template("choices", one.get<std::string>()).fill(document));
    }
    KVLAB_REQUIRE(question.choices.size() >= 2, "E_FORMAT", document.place, ": ",
                  question.choices.size(), " choices; a question has at least 2");
    for (const std::string& choice : question.choices) checked(choice, document);
    const Json& gold = file.at("gold");
    question.gold =
        gold_of(gold.is_string() ? Template("gold", gold.get<std::string>()).value(document) : gold,
                question.choices, document);
    return question;
  }

  static std::string checked(std::string choice, const Document& document) {
    KVLAB_REQUIRE(!choice.empty(), "E_FORMAT", document.place,
                  ": a continuation is empty: it has no likelihood");
    return choice;
  }

  std::string solved(const Document& document) const {
    const Question question = question_of(document);
    return context_.fill(document) + delimiter_ + question.choices[question.gold];
  }

  static std::string trailing_space(const std::string& text) {
    const std::u32string all = code_points(text);
    const auto last = std::find_if_not(all.rbegin(), all.rend(), is_space);
    return utf8(std::u32string(last.base(), all.end()));
  }

  Ids continuation(const std::string& context, size_t context_tokens, const std::string& text,
                   const Document& document) const {
    const Ids whole =
        context.empty() ? prompter_.encode_inside(text) : prompter_.encode(context + text);
    const size_t from = context.empty() ? 0 : context_tokens;
    KVLAB_REQUIRE(whole.size() > from, "E_FORMAT", document.place, ": \"", printable(text),
                  "\" adds no token of its own to the context");
    return {whole.begin() + static_cast<std::ptrdiff_t>(from), whole.end()};
  }

  /// `first` and all but the last token are fed, every token is scored.
  static Turn scoring(int32_t first, const Ids& tokens) {
    Turn turn{.query = {.ids = {first}, .labels = tokens}};
    turn.query.ids.insert(turn.query.ids.end(), tokens.begin(), tokens.end() - 1);
    return turn;
  }

  Turn from_nothing(const Ids& tokens, const Document& document) const {
    const Ids start = prompter_.start();
    KVLAB_REQUIRE(!start.empty(), "E_CONFIG", document.place,
                  ": acc_pmi: likelihoods after nothing follow a BOS token, but neither tokenizer ",
                  "nor model names one; leave acc_pmi out");
    Turn turn = scoring(start.front(), tokens);
    turn.from_nothing = true;
    return turn;
  }

  const Source& source_;
  const TaskSetup& setup_;
  std::string delimiter_;
  Template context_;
  Prompter prompter_;
  bool wants_alone_ = false;
};

}  // namespace

Made make_multiple_choice(const Source& source, const TaskSetup& setup) {
  const std::shared_ptr<Tokenizer> tokenizer = setup.tokenizer();
  const AskingChoices asking(source, setup, *tokenizer);
  Made made{.work = {.protocol = "decode",
                     .facts = asking.facts(),
                     .tokenizer_sha = tokenizer->sha256()}};
  for (size_t i = 0; i < source.docs.size(); ++i) made.samples.push_back(asking.sample(i));
  return made;
}

}  // namespace kvlab::tasks::file
