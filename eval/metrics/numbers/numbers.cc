#include "eval/metrics/numbers/numbers.h"

#include <algorithm>
#include <vector>

namespace kvlab {
namespace {

std::vector<std::string_view> numbers_in(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  std::vector<std::string_view> all;
  for (size_t at = 0; (at = text.find_first_of(kDigits, at)) != text.npos;) {
    const size_t end = std::min(text.find_first_not_of(kDigits, at), text.size());
    all.push_back(text.substr(at, end - at));
    at = end;
  }
  return all;
}

}  // namespace

double number_share(std::string_view text, std::string_view reference) {
  const auto named = numbers_in(text), wanted = numbers_in(reference);
  if (named.empty() || wanted.empty()) return 0;
  const auto right = std::ranges::count(named, wanted.front());
  return static_cast<double>(right) / static_cast<double>(named.size());
}

}  // namespace kvlab
