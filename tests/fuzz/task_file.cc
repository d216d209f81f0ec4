// Any text as a task file and, after a line of three dashes, its documents: texts and numbers that
// keep to their definitions, or one sentence.

#include "eval/tasks/file/task_file.h"

#include "eval/tasks/file/documents.h"
#include "eval/text.h"
#include "tests/fuzz/fuzz.h"

namespace kvlab::tasks::file {
namespace {

constexpr int64_t kVocabulary = 100;

struct Input {
  Json file{};
  std::vector<Document> docs{};
};

Input read(std::string_view text) {
  constexpr std::string_view kDashes = "\n---\n";
  const size_t cut = std::min(text.find(kDashes), text.size());
  Input input{.file = parse_task_file(text.substr(0, cut), "input")};
  text.remove_prefix(std::min(cut + kDashes.size(), text.size()));
  input.docs = documents_of(text, "docs");
  return input;
}

void fill(const Json& file, const char* key, const Document& document) {
  if (!file.contains(key) || !file.at(key).is_string()) return;
  const Template made(key, file.at(key).get<std::string>());
  const std::string text = made.fill(document);
  fuzz::require(first_invalid_utf8(text) < 0, "filled templates are UTF-8");
  fuzz::require(made.value(document) == text || !made.value(document).is_string(),
                "and values too");
}

void ask(const Json& file, const Document& document) {
  for (const char* key : {"context", "query", "answer_prefix", "continuation", "text"})
    fill(file, key, document);
  const auto value = [&](const char* key) {
    return Template(key, file.at(key).get<std::string>()).value(document);
  };
  if (file.contains("choices") && file.at("choices").is_string() && file.at("gold").is_string()) {
    const auto choices = texts_of(value("choices"), document, "choices");
    if (choices.empty()) return;
    fuzz::require(gold_of(value("gold"), choices, document) < choices.size(), "gold is a choice");
  }
  if (file.contains("answers") && file.at("answers").is_string())
    fuzz::require(!references_of(value("answers"), document).empty(), "there is a reference");
  if (file.contains("context_ids"))
    for (const int32_t id : integers_of(value("context_ids"), document, "ids", 0, kVocabulary))
      fuzz::require(id >= 0 && id < kVocabulary, "ids are in the vocabulary");
}

}  // namespace
}  // namespace kvlab::tasks::file

void kvlab::fuzz::target(std::string_view text) {
  using namespace kvlab::tasks::file;
  const auto codes = {std::string_view("E_FORMAT"),       std::string_view("E_CONFIG"),
                      std::string_view("E_UNKNOWN"),      std::string_view("E_TASK_UNKNOWN_KEY"),
                      std::string_view("E_NO_REFERENCE"), std::string_view("E_POSITION"),
                      std::string_view("E_NONFINITE")};
  Input input;
  if (!fuzz::accepts(codes, [&] { input = read(text); })) return;
  fuzz::require(parse_task_file(input.file.dump(), "again") == input.file,
                "completing is idempotent");
  for (const Document& document : input.docs)
    fuzz::accepts(codes, [&] { ask(input.file, document); });
}
