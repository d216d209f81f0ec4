#include "eval/tasks/file/prompt.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "eval/random.h"

namespace kvlab::tasks::file {
namespace {

/// Where the prompt's context ends in what a chat template made of it; npos: it was changed.
/// Templates may strip white space from the prompt's ends.
size_t end_of_context(const Prompt& prompt, const std::string& rendered) {
  const std::string content = prompt.context + prompt.rest;
  if (const size_t at = rendered.rfind(content); at != std::string::npos)
    return at + prompt.context.size();
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t begin = content.find_first_not_of(kSpace);
  if (begin == std::string::npos) return std::string::npos;
  const size_t size = content.find_last_not_of(kSpace) + 1 - begin;
  const size_t at = rendered.rfind(content.substr(begin, size));
  if (at == std::string::npos) return at;
  return at + std::min(std::max(prompt.context.size(), begin) - begin, size);
}

}  // namespace

Prompter::Prompter(const Source& source, const TaskSetup& setup, Tokenizer& tokenizer,
                   Solved solved)
    : source_(source),
      setup_(setup),
      tokenizer_(tokenizer),
      solved_(std::move(solved)),
      fewshot_(source.file.at("fewshot")),
      chat_(source.file.at("chat_template")),
      special_(source.file.at("bos") == "none" || uses_models_template()
                   ? Tokenizer::Special::none
                   : Tokenizer::Special::as_model) {
  const auto wanted = fewshot_.at("n").get<size_t>();
  const size_t there = source.examples.size() - (source.examples_are_docs ? 1 : 0);
  KVLAB_REQUIRE(wanted <= there, "E_CONFIG", source.name, ": `fewshot`: ", wanted,
                " examples, but there are ", there, " to draw from");
  if (!chat_.is_string() || uses_models_template()) return;
  const std::string text = chat_;
  KVLAB_REQUIRE(
      text.find("{prompt}") != text.npos && text.find("{prompt}") == text.rfind("{prompt}"),
      "E_CONFIG", source.name, ": `chat_template` is ", printable(chat_.dump()),
      ", allowed is null, \"model\" or text with {prompt} in it, once; a Jinja template ",
      "belongs into the model's tokenizer_config.json");
}

std::string Prompter::examples(size_t index) const {
  const auto count = fewshot_.at("n").get<size_t>();
  if (count == 0) return {};
  std::vector<size_t> all(source_.examples.size());
  std::iota(all.begin(), all.end(), size_t{0});
  if (source_.examples_are_docs) std::erase(all, index);
  SplitMix64 random =
      random_stream(fewshot_.at("seed"), source_.file.at("task").get<std::string>(), index);
  std::string text;
  for (const size_t one : random.sample(std::move(all), count))
    text += solved_(source_.examples[one]) + fewshot_.at("separator").get<std::string>();
  return text;
}

std::string Prompter::rendered(const std::string& content) const {
  if (uses_models_template()) return tokenizer_.chat(content);
  std::string text = chat_;
  return text.replace(text.find("{prompt}"), std::string_view("{prompt}").size(), content);
}

Prompt Prompter::in_chat(const Prompt& prompt, const Document& document) const {
  if (chat_.is_null()) return prompt;
  const std::string text = rendered(prompt.context + prompt.rest);
  if (prompt.rest.empty()) return {.context = text};
  const size_t end = end_of_context(prompt, text);
  KVLAB_REQUIRE(end != std::string::npos, "E_FORMAT", document.place,
                ": the chat template changes the prompt, so that its context cannot be told from ",
                "its query; put the query into the context");
  return {text.substr(0, end), text.substr(end)};
}

std::vector<int32_t> Prompter::encode(const std::string& text) const {
  TokenSpans spans = tokenizer_.encode_spans(text, special_);
  // What is put behind a text has no place ahead of its continuation.
  while (spans.tokens.size() > 1 && spans.bytes.back().size() == 0) {
    spans.tokens.pop_back();
    spans.bytes.pop_back();
  }
  return std::move(spans.tokens);
}

std::vector<int32_t> Prompter::encode_inside(const std::string& text) const {
  return tokenizer_.encode(text, Tokenizer::Special::none);
}

PromptTokens Prompter::encode(const Prompt& prompt) const {
  PromptTokens tokens{.context = encode(prompt.context)};
  if (prompt.rest.empty()) return tokens;
  const std::vector<int32_t> whole = encode(prompt.context + prompt.rest);
  const auto cut = whole.begin() + std::min(std::ssize(tokens.context), std::ssize(whole));
  return {{whole.begin(), cut}, {cut, whole.end()}};
}

std::vector<int32_t> Prompter::start() const {
  const std::vector<int32_t> added = tokenizer_.encode("", Tokenizer::Special::as_model);
  if (!added.empty()) return {added.front()};
  return setup_.begin_token < 0 ? std::vector<int32_t>{} : std::vector{setup_.begin_token};
}

Json Prompter::facts() const {
  Json facts{{"bos", special_ == Tokenizer::Special::none ? "none" : "auto"},
             {"chat_template", chat_},
             {"fewshot", fewshot_},
             {"stop", source_.file.at("stop")}};
  if (!chat_.is_null()) facts["chat_template_makes"] = rendered("{prompt}");
  return facts;
}

void require_positions(int64_t positions, const Document& document, const TaskSetup& setup) {
  const int64_t most = setup.shape->max_positions;
  KVLAB_REQUIRE(most <= 0 || positions <= most, "E_CONTEXT_TOO_LONG", document.place, ": it takes ",
                positions, " positions, the model has ", most);
}

}  // namespace kvlab::tasks::file
