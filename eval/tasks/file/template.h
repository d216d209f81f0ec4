#pragma once
// Text with fields of a document: "Question: {question}\nAnswer:".  It knows {field} and nothing
// else; {{ and }} stand for braces.

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvlab::tasks::file {

/// One line of a file of documents.
struct Document {
  Json fields{};        // an object
  std::string place{};  // "mini_mc.jsonl, line 3": for errors
};

class Template {
 public:
  /// `key` names it in errors.  E_CONFIG: a brace without its partner, with the byte it stands at.
  Template(std::string_view key, std::string_view text);

  /// E_FORMAT with the document's place: it has no such field (the nearest one is named), or the
  /// field is a list, an object or null.
  std::string fill(const Document& document) const;
  /// The same, but the value itself where the template is a single {field}.
  Json value(const Document& document) const;

 private:
  struct Piece {
    std::string text{};
    bool is_field = false;
  };
  const Json& field(const std::string& name, const Document& document) const;

  std::string key_;
  std::vector<Piece> pieces_{};
};

}  // namespace kvlab::tasks::file
