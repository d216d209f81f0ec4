#pragma once
// Files of documents: JSON Lines, an object in each.

#include <filesystem>
#include <string_view>
#include <vector>

#include "eval/tasks/file/template.h"

namespace kvlab::tasks::file {

/// Blank lines are passed over and counted.  E_FORMAT with the line: no JSON object.  E_FORMAT: no
/// document at all.
std::vector<Document> documents_of(std::string_view text, const std::string& name);

struct Documents {
  std::vector<Document> all{};
  Json digest{};  // {"path", "sha256", "bytes"}
};
/// E_FILE, E_FORMAT; also when `sha256` is not empty and not the file's.
Documents read_documents(const std::filesystem::path& path, const std::string& sha256);

/// A list of texts: a string is a list of one, numbers and booleans are written as JSON writes
/// them.  E_FORMAT with the place: anything else, or no text in `what` ("choices").
std::vector<std::string> texts_of(const Json& value, const Document& document,
                                  std::string_view what);

/// The same of what counts as right.  E_NO_REFERENCE: there is none, or only empty ones.
std::vector<std::string> references_of(const Json& value, const Document& document);

/// The right choice: its index, or its text.  E_FORMAT.
size_t gold_of(const Json& value, const std::vector<std::string>& choices,
               const Document& document);

/// A list of integers, each in [least, below).  E_FORMAT; E_POSITION: outside.
std::vector<int32_t> integers_of(const Json& value, const Document& document, std::string_view what,
                                 int64_t least, int64_t below);

}  // namespace kvlab::tasks::file
