#include "eval/metrics/string_match/match.h"

#include <algorithm>

#include "eval/unicode.h"

namespace kvlab::metrics::string_match {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
/// Bytes from 0x80 on are parts of letters far more often than of anything else.
bool goes_on(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80;
}

bool is_delimited(std::string_view text, std::string_view part) {
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) {
    const size_t end = at + part.size();
    if ((at == 0 || !goes_on(text[at - 1])) && (end == text.size() || !goes_on(text[end])))
      return true;
  }
  return false;
}

template <class Holds>
double share_of(std::string_view answer, const std::vector<std::string>& references,
                const Holds& holds) {
  const std::string text = normalised(answer);
  double found = 0;
  for (const std::string& reference : references) found += holds(text, normalised(reference));
  return references.empty() ? 0 : found / static_cast<double>(references.size());
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace

std::string normalised(std::string_view text) {
  std::string made = utf8(lower(code_points(text)));
  for (char& c : made)
    if (static_cast<unsigned char>(c) < 0x20) c = '\n';
  const size_t begin = made.find_first_not_of(" \n");
  if (begin == made.npos) return "";
  return made.substr(begin, made.find_last_not_of(" \n") + 1 - begin);
}

double match_all(std::string_view answer, const std::vector<std::string>& references) {
  return share_of(answer, references, has);
}

double match_any(std::string_view answer, const std::vector<std::string>& references) {
  return match_all(answer, references) > 0 ? 1 : 0;
}

double match_strict(std::string_view answer, const std::vector<std::string>& references) {
  return share_of(answer, references, is_delimited);
}

double first_integer(std::string_view answer, const std::vector<std::string>& references) {
  const auto* const begin = std::find_if(answer.begin(), answer.end(), is_digit);
  const auto* const end = std::find_if_not(begin, answer.end(), is_digit);
  const std::string_view found(begin, end);
  return !found.empty() && std::ranges::find(references, found) != references.end() ? 1 : 0;
}

std::vector<Share> turns_scored(const Outcome& sample, Score score) {
  if (sample.texts.empty()) return {};
  Share share{0, static_cast<double>(sample.texts.size())};
  for (size_t turn = 0; turn < sample.texts.size(); ++turn)
    share.sum += score(sample.texts[turn], sample.references[turn]);
  return {share};
}

}  // namespace kvlab::metrics::string_match
