#include "eval/tasks/file/template.h"

#include "core/error.h"

namespace kvlab::tasks::file {
namespace {

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(printable(key, 40));
  return keys;
}

}  // namespace

Template::Template(std::string_view key, std::string_view text) : key_(key) {
  const auto literal = [&](char c) {
    if (pieces_.empty() || pieces_.back().is_field) pieces_.emplace_back();
    pieces_.back().text += c;
  };
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const bool doubled = at + 1 < text.size() && text[at + 1] == c;
    if (c != '{' && c != '}') {
      literal(c);
    } else if (doubled) {
      literal(c);
      ++at;
    } else {
      const size_t end = text.find_first_of("{}", at + 1);
      const bool closed = c == '{' && end != text.npos && text[end] == '}' && end > at + 1;
      KVLAB_REQUIRE(closed, "E_CONFIG", "`", key_, "`: `", std::string(1, c), "` at byte ", at,
                    " of \"", printable(text),
                    "\" is no part of a {field}; write {{ or }} for a brace");
      pieces_.push_back({std::string(text.substr(at + 1, end - at - 1)), true});
      at = end;
    }
  }
}

const Json& Template::field(const std::string& name, const Document& document) const {
  const auto found = document.fields.find(name);
  KVLAB_REQUIRE(found != document.fields.end(), "E_FORMAT", document.place, ": there is no field `",
                printable(name), "`, which `", key_, "` names",
                suggestion(name, keys_of(document.fields)));
  return *found;
}

std::string Template::fill(const Document& document) const {
  std::string text;
  for (const Piece& piece : pieces_) {
    if (!piece.is_field) {
      text += piece.text;
      continue;
    }
    const Json& value = field(piece.text, document);
    KVLAB_REQUIRE(!value.is_structured() && !value.is_null(), "E_FORMAT", document.place,
                  ": field `", printable(piece.text), "` is ", printable(canonical(value)),
                  ", which is no text to put into `", key_, "`");
    text += value.is_string() ? value.get<std::string>() : canonical(value);
  }
  return text;
}

Json Template::value(const Document& document) const {
  const bool is_single = pieces_.size() == 1 && pieces_[0].is_field;
  return is_single ? field(pieces_[0].text, document) : Json(fill(document));
}

}  // namespace kvlab::tasks::file
