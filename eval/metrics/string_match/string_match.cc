// Generated text that holds what it should.

#include "eval/catalogue.h"
#include "eval/metrics/string_match/match.h"

namespace kvlab::metrics::string_match {
namespace {

template <Score score>
std::vector<Share> shares(const Outcome& sample, const Outcome*) {
  return turns_scored(sample, score);
}

std::vector<Share> empty_answers(const Outcome& sample, const Outcome*) {
  if (sample.generated.empty()) return {};
  Share share{0, static_cast<double>(sample.generated.size())};
  for (const auto& answer : sample.generated) share.sum += answer.empty() ? 1 : 0;
  return {share};
}

Metric metric(const char* name, const char* doc,
              std::vector<Share> (*of)(const Outcome&, const Outcome*)) {
  return {.name = name, .unit = "fraction", .doc = doc, .better = Better::higher, .shares = of};
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  catalogue.add(metric("string_match_all", "references found in the answer", shares<match_all>));
  catalogue.add(metric("string_match_any", "answers that hold at least one of their references",
                       shares<match_any>));
  catalogue.add(metric("string_match_strict",
                       "references found in the answer with neither a letter nor a digit beside",
                       shares<match_strict>));
  catalogue.add(
      metric("first_int", "answers whose first integer is the reference", shares<first_integer>));
  Metric empty =
      metric("empty_answers", "answers that end before their first token", empty_answers);
  empty.better = Better::lower;
  catalogue.add(std::move(empty));
}

}  // namespace kvlab::metrics::string_match
