#pragma once
// Whether a text holds what it should: pure functions of an answer and its references.

#include <string>
#include <string_view>
#include <vector>

#include "eval/outcome.h"
#include "eval/statistics.h"

namespace kvlab::metrics::string_match {

/// As answers and references are compared: control characters 0x00-0x1f are newlines, letters
/// lower-case (unicode.h), no white space around.
std::string normalised(std::string_view text);

/// Mean over the references of [it is a substring].
double match_all(std::string_view answer, const std::vector<std::string>& references);
/// 1 where at least one reference is a substring.
double match_any(std::string_view answer, const std::vector<std::string>& references);
/// As match_all, but a reference counts only where neither side of it goes on with an ASCII letter,
/// a digit or a byte of another alphabet: "123" is not in "91234".
double match_strict(std::string_view answer, const std::vector<std::string>& references);
/// 1 where the first run of digits is one of the references.
double first_integer(std::string_view answer, const std::vector<std::string>& references);

/// Sum over the turns of a sample, one share: weight is the number of turns.  Empty: it has none.
using Score = double (*)(std::string_view answer, const std::vector<std::string>& references);
std::vector<Share> turns_scored(const Outcome& sample, Score score);

}  // namespace kvlab::metrics::string_match
