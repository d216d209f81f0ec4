#pragma once
// From a document to the tokens a model is fed: solved examples, chat template, where the context
// ends.

#include <functional>
#include <string>
#include <vector>

#include "eval/task.h"
#include "eval/tasks/file/documents.h"

namespace kvlab::tasks::file {

/// What every type works from.
struct Source {
  std::string name{};  // of the task file, for errors
  Json file{};         // completed
  std::vector<Document> docs{};
  std::vector<Document> examples{};  // what few-shot examples are drawn from
  bool examples_are_docs = false;    // then a document is never an example of its own
};

/// A prompt as text, cut where the context ends: `context` is prefilled and compressed, `rest` is
/// fed through the compressed cache.
struct Prompt {
  std::string context{}, rest{};
};
struct PromptTokens {
  std::vector<int32_t> context{}, rest{};
};

class Prompter {
 public:
  /// A document with its answer, as an example.
  using Solved = std::function<std::string(const Document&)>;
  /// E_CONFIG: more examples than there are documents; a chat template without {prompt}.
  Prompter(const Source& source, const TaskSetup& setup, Tokenizer& tokenizer, Solved solved);

  /// The examples of document `index`, each followed by the separator; drawn from
  /// random_stream(fewshot.seed, task, index).
  std::string examples(size_t index) const;

  /// The prompt inside the chat template, if there is one.  E_FORMAT with the document: the model's
  /// template changes the prompt, so that its context cannot be told from its rest.
  Prompt in_chat(const Prompt& prompt, const Document& document) const;

  /// Tokens of context + rest as one text, cut where those of the context alone end.
  PromptTokens encode(const Prompt& prompt) const;
  /// Of a text at the start of a sequence.
  std::vector<int32_t> encode(const std::string& text) const;
  /// Of a text in the middle of one: nothing is added.
  std::vector<int32_t> encode_inside(const std::string& text) const;
  /// What stands before a text of nothing: the first token that the tokenizer or the model puts
  /// there, or none.
  std::vector<int32_t> start() const;

  /// For the record and the table: {"bos", "chat_template", "fewshot", ...}.
  Json facts() const;

  Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  bool uses_models_template() const { return chat_.is_string() && chat_ == "model"; }
  std::string rendered(const std::string& content) const;

  const Source& source_;
  const TaskSetup& setup_;
  Tokenizer& tokenizer_;
  Solved solved_;
  const Json& fewshot_;
  const Json& chat_;
  Tokenizer::Special special_;
};

/// E_CONTEXT_TOO_LONG with the document's place.
void require_positions(int64_t positions, const Document& document, const TaskSetup& setup);

}  // namespace kvlab::tasks::file
