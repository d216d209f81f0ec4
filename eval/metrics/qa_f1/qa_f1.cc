#include "eval/metrics/qa_f1/qa_f1.h"

#include <algorithm>
#include <iterator>

#include "eval/text_metric.h"
#include "eval/unicode.h"

namespace kvlab {
namespace {

bool is_article(std::u32string_view word) {
  return word == U"a" || word == U"an" || word == U"the";
}

/// Every a, an, the that neither continues nor is continued by a word's characters becomes a space.
std::u32string without_articles(std::u32string_view text) {
  std::u32string kept;
  for (size_t at = 0; at < text.size();) {
    const auto* const end = std::find_if_not(text.begin() + at, text.end(), is_word);
    const size_t size = static_cast<size_t>(end - text.begin()) - at;
    const std::u32string_view run = text.substr(at, std::max<size_t>(size, 1));
    kept += is_article(run) ? U" " : run;
    at += run.size();
  }
  return kept;
}

std::vector<std::u32string> answer_words(std::string_view text) {
  std::u32string small = lower(code_points(text));
  std::erase_if(small, is_ascii_punctuation);
  return words(without_articles(small));
}

std::u32string answer_characters(std::string_view text) {
  std::u32string small = lower(code_points(text));
  std::erase_if(small, [](char32_t c) { return is_space(c) || c == '_' || !is_word(c); });
  return small;
}

template <class List>
double bag_f1(List predicted, List wanted) {
  std::ranges::sort(predicted);
  std::ranges::sort(wanted);
  List common;
  std::ranges::set_intersection(predicted, wanted, std::back_inserter(common));
  return f1(common.size(), predicted.size(), wanted.size());
}

}  // namespace

double qa_f1(std::string_view text, std::string_view reference) {
  return bag_f1(answer_words(text), answer_words(reference));
}

double qa_f1_char(std::string_view text, std::string_view reference) {
  return bag_f1(answer_characters(text), answer_characters(reference));
}

}  // namespace kvlab
