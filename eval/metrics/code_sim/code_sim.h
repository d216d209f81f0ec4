#pragma once
// How alike two lines of code are.

#include <string_view>

namespace kvlab {

/// The first line of the text (newlines in front of it aside) without a backtick, `#` or `//`,
/// nothing where all have one, against the reference: 2 lcs / (|a| + |b|) on characters, in
/// hundredths, halves to even.  Equal lines score 1, also empty ones.
double code_sim(std::string_view text, std::string_view reference);

}  // namespace kvlab
