#pragma once
// Which of a list of classes a text names.

#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// Classes that are substrings of the text match, less those that are proper substrings of `gold`:
/// 1 / matches when gold is among them, else 0.
double classification(std::string_view text, std::string_view gold,
                      const std::vector<std::string>& classes);

/// LongBench's own loop: it removes matches from the list it walks and so passes over the one after
/// each that it removes.
double classification_compat(std::string_view text, std::string_view gold,
                             const std::vector<std::string>& classes);

}  // namespace kvlab
