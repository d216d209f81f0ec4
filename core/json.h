#pragma once
// JSON as kvlab reads and writes it.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

using Json = nlohmann::json;  // object keys sorted, so dumps are canonical

/// Strict JSON: no comments, no duplicate keys, nesting at most 64 deep.
/// `where` names the text in errors: E_FORMAT with line and column.
Json parse_json(std::string_view text, std::string_view where);

/// The same of a file of at most `max_bytes`; E_FILE when it cannot be read.
Json read_json(const std::filesystem::path& path, int64_t max_bytes = 64 << 20);

/// Keys sorted, no spaces, numbers in shortest round-trip form: what hashes are taken of.
std::string canonical(const Json& value);

/// The known name with the smallest edit distance, or "" when none is near.
std::string nearest_name(std::string_view name, std::span<const std::string> known);

/// "; did you mean `x`?" or "; known: a, b, c": the tail of every E_UNKNOWN.
std::string suggestion(std::string_view name, std::span<const std::string> known);

}  // namespace kvlab
