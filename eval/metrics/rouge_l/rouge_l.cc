#include "eval/metrics/rouge_l/rouge_l.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "eval/lcs.h"
#include "eval/text_metric.h"
#include "eval/unicode.h"

namespace kvlab {
namespace {

/// Units as numbers, equal ones alike.
using Units = std::vector<int32_t>;

class Numbering {
 public:
  explicit Numbering(Unit unit) : unit_(unit) {}

  Units operator()(std::u32string_view text) {
    Units all;
    for (const std::u32string& word : words(text)) {
      if (unit_ == Unit::word) {
        all.push_back(number(word));
      } else {
        for (const char32_t c : word) all.push_back(number({c}));
      }
    }
    return all;
  }

  std::vector<Units> sentences(std::u32string_view text) {
    std::vector<Units> all;
    while (!text.empty()) {
      const size_t end = std::min(text.find(U'.'), text.size());
      if (end > 0) all.push_back((*this)(text.substr(0, end)));
      if (end > 0 && all.back().empty()) all.back() = {number({})};
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return all;
  }

 private:
  int32_t number(const std::u32string& unit) {
    return numbers_.try_emplace(unit, static_cast<int32_t>(numbers_.size())).first->second;
  }
  Unit unit_;
  std::map<std::u32string, int32_t> numbers_{};
};

/// The units of one longest common subsequence join `all`.
void join_lcs(const Units& wanted, const Units& predicted, std::set<int32_t>& all) {
  const size_t width = predicted.size() + 1;
  std::vector<uint32_t> length((wanted.size() + 1) * width, 0);
  const auto at = [&](size_t i, size_t j) -> uint32_t& { return length[i * width + j]; };
  for (size_t i = 1; i <= wanted.size(); ++i)
    for (size_t j = 1; j < width; ++j)
      at(i, j) = wanted[i - 1] == predicted[j - 1] ? at(i - 1, j - 1) + 1
                                                   : std::max(at(i - 1, j), at(i, j - 1));
  for (size_t i = wanted.size(), j = predicted.size(); i > 0 && j > 0;) {
    if (wanted[i - 1] == predicted[j - 1]) {
      all.insert(wanted[i - 1]);
      --i, --j;
    } else if (at(i - 1, j) > at(i, j - 1)) {
      --i;
    } else {
      --j;
    }
  }
}

size_t distinct(const std::vector<Units>& sentences) {
  std::set<int32_t> all;
  for (const Units& one : sentences) all.insert(one.begin(), one.end());
  return all.size();
}

}  // namespace

double rouge_l(std::string_view text, std::string_view reference, Unit unit) {
  Numbering numbered(unit);
  const Units predicted = numbered(code_points(text)), wanted = numbered(code_points(reference));
  return f1(lcs_length(wanted, predicted), predicted.size(), wanted.size());
}

double rouge_l_compat(std::string_view text, std::string_view reference, Unit unit) {
  Numbering numbered(unit);
  const auto predicted = numbered.sentences(code_points(text));
  const auto wanted = numbered.sentences(code_points(reference));
  if (predicted.empty() || wanted.empty()) return 0;
  std::set<int32_t> matched;
  for (const Units& sentence : wanted)
    for (const Units& one : predicted) join_lcs(sentence, one, matched);
  const auto hits = static_cast<double>(matched.size());
  const double precision = hits / static_cast<double>(distinct(predicted));
  const double recall = hits / static_cast<double>(distinct(wanted));
  return 2 * (precision * recall / (precision + recall + 1e-8));
}

}  // namespace kvlab
