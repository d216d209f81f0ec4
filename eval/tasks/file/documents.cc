#include "eval/tasks/file/documents.h"

#include <algorithm>

#include "core/error.h"
#include "eval/sha256.h"
#include "eval/text.h"

namespace kvlab::tasks::file {
namespace {

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

[[noreturn]] void refuse(const Document& document, std::string_view what, const Json& value,
                         std::string_view wanted) {
  fail("E_FORMAT", document.place, ": `", what, "` is ", printable(canonical(value)),
       ", wanted is ", wanted);
}

std::string text_of(const Json& value, const Document& document, std::string_view what) {
  if (value.is_string()) return value;
  if (value.is_structured() || value.is_null()) refuse(document, what, value, "text");
  return canonical(value);
}

}  // namespace

std::vector<Document> documents_of(std::string_view text, const std::string& name) {
  std::vector<Document> all;
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (is_blank(one)) continue;
    Document document{.place = name + ", line " + std::to_string(line)};
    document.fields = parse_json(one, document.place);
    KVLAB_REQUIRE(document.fields.is_object(), "E_FORMAT", document.place, ": ",
                  printable(document.fields.dump()), " is not an object of fields");
    all.push_back(std::move(document));
  }
  KVLAB_REQUIRE(!all.empty(), "E_FORMAT", name, ": there is no document in it");
  return all;
}

Documents read_documents(const std::filesystem::path& path, const std::string& sha256) {
  const std::string text = read_text(path);
  const std::string name = printable(path.filename().native(), 100);
  const std::string digest = sha256_hex(text);
  KVLAB_REQUIRE(sha256.empty() || sha256 == digest, "E_FORMAT", name, ": its SHA-256 is ", digest,
                ", the task file wants ", printable(sha256),
                ": these are not the documents that it was written for");
  return {documents_of(text, name),
          {{"path", path.string()}, {"sha256", digest}, {"bytes", text.size()}}};
}

std::vector<std::string> texts_of(const Json& value, const Document& document,
                                  std::string_view what) {
  if (!value.is_array()) return {text_of(value, document, what)};
  std::vector<std::string> texts;
  for (const Json& one : value) texts.push_back(text_of(one, document, what));
  return texts;
}

std::vector<std::string> references_of(const Json& value, const Document& document) {
  const std::vector<std::string> texts = texts_of(value, document, "answers");
  const bool any =
      std::ranges::any_of(texts, [](const std::string& text) { return !text.empty(); });
  KVLAB_REQUIRE(
      any, "E_NO_REFERENCE", document.place,
      ": there is no answer to score a prediction by; give one or leave the document out");
  return texts;
}

size_t gold_of(const Json& value, const std::vector<std::string>& choices,
               const Document& document) {
  if (value.is_string()) {
    const auto found = std::ranges::find(choices, value.get<std::string>());
    if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  } else if (value.is_number_integer() && value >= 0 && value < choices.size()) {
    return value.get<size_t>();
  }
  refuse(document, "gold", value,
         "the text of a choice or its index 0.." + std::to_string(choices.size() - 1));
}

std::vector<int32_t> integers_of(const Json& value, const Document& document, std::string_view what,
                                 int64_t least, int64_t below) {
  if (!value.is_array()) refuse(document, what, value, "a list of integers");
  std::vector<int32_t> all;
  for (const Json& one : value) {
    if (!one.is_number_integer()) refuse(document, what, one, "a list of integers");
    KVLAB_REQUIRE(one >= least && one < below, "E_POSITION", document.place, ": `", what,
                  "`: ", printable(one.dump()), " at place ", all.size(), " is outside ", least,
                  "..", below - 1);
    all.push_back(one.get<int32_t>());
  }
  return all;
}

}  // namespace kvlab::tasks::file
