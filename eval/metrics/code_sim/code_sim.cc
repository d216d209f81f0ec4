#include "eval/metrics/code_sim/code_sim.h"

#include <algorithm>

#include "eval/lcs.h"
#include "eval/unicode.h"

namespace kvlab {
namespace {

std::string_view first_code_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  while (true) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.find_first_of("`#") == line.npos && line.find("//") == line.npos) return line;
    if (end == text.npos) return {};
    text.remove_prefix(end + 1);
  }
}

/// 100 part / whole to the nearest integer, halves to the even one, without rounding on the way.
size_t percent(size_t part, size_t whole) {
  const size_t down = 100 * part / whole, rest = 100 * part % whole;
  const bool up = 2 * rest > whole || (2 * rest == whole && down % 2 == 1);
  return down + (up ? 1 : 0);
}

}  // namespace

double code_sim(std::string_view text, std::string_view reference) {
  const std::u32string a = code_points(first_code_line(text)), b = code_points(reference);
  if (a == b) return 1;
  return static_cast<double>(percent(2 * lcs_length(a, b), a.size() + b.size())) / 100;
}

}  // namespace kvlab
