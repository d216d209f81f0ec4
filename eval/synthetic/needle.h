#pragma once
// The sentence that is hidden, and how it is asked for.

#include <span>
#include <string>
#include <vector>

#include "eval/synthetic/values.h"

namespace kvlab {

/// "The secret number of mukabo-nudumo is 2285144."
std::string needle_sentence(ValueKind kind, const std::string& key, const std::string& value);

/// "What is the secret number of K?" for one value, else "What are all the secret numbers of K, L,
/// and M?".
std::string needle_question(ValueKind kind, std::span<const std::string> keys, bool one_value);
/// How the answer begins: " The secret number of K is".
std::string needle_answer_prefix(ValueKind kind, std::span<const std::string> keys, bool one_value);

/// "a", "a, and b", "a, b, and c".
std::string listed(std::span<const std::string> items);
/// "a, b, c".
std::string joined(std::span<const std::string> items, std::string_view separator);

}  // namespace kvlab
