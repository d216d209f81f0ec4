// Frequent words: a text of coded words whose frequencies fall as a power of their rank; ranks 2, 3
// and 4 are asked for, rank 1 is written "..." and is noise.  RULER-style.
//
// Of W words rank r has floor(W r^-2 / zeta(2)).  Draws, in this order: a word of 6 letters for
// each rank, all distinct; the shuffle of the text, which holds rank after rank before it.

#include <algorithm>

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"
#include "eval/synthetic/zipf.h"

namespace kvlab::tasks::fwe {
namespace {

constexpr int64_t kTokensPerRank = 50;  // of the budget
/// From here on rank 4 has more words than rank 5: W (1/16 - 1/25) / zeta(2) >= 1.
constexpr int64_t kLeastWords = 74;

constexpr const char* kQuestion =
    "Which 3 words occur most often in the text above, not counting the dots?";
constexpr const char* kAnswerPrefix = " The 3 words that occur most often are";

TextQuestion make(int64_t ranks, int64_t words, SplitMix64& random) {
  Distinct distinct;
  std::vector<std::string> coded, text;
  while (std::ssize(coded) < ranks) coded.push_back(distinct.letters(random, 'a', 6));
  coded[0] = "...";
  const std::vector<int64_t> counts = zipf_counts(words, ranks);
  for (size_t rank = 0; rank < coded.size(); ++rank)
    text.insert(text.end(), static_cast<size_t>(counts[rank]), coded[rank]);
  random.shuffle(text);
  return {.context = joined(text, " ") + "\n",
          .turns = {{.query = kQuestion,
                     .answer_prefix = kAnswerPrefix,
                     .answers = {coded.begin() + 1, coded.begin() + 4}}}};
}

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const int64_t length = params.at("length"), max_new = params.at("max_new_tokens");
  const std::string asked = std::string(kQuestion) + kAnswerPrefix;
  const auto asking = std::ssize(setup.tokenizer()->encode(asked, Tokenizer::Special::none));
  const int64_t ranks = (length - max_new - asking) / kTokensPerRank;
  KVLAB_REQUIRE(ranks >= 4, "E_HAYSTACK_TOO_SHORT", "fwe: ", length, " tokens leave ",
                length - max_new - asking, " for the text, which needs ", 4 * kTokensPerRank,
                " for its four most frequent words; raise `length` or lower `max_new_tokens`");
  // Coded words differ in tokens by far more than one of them takes: finer steps would all be
  // walked.
  const int64_t step = std::max<int64_t>(1, length / 128);
  return text_work(setup, {.name = "fwe",
                           .lengths = {length},
                           .samples_per_length = params.at("samples"),
                           .least_units = (kLeastWords + step - 1) / step,
                           .make = [=](SplitMix64& random, int64_t,
                                       int64_t units) { return make(ranks, units * step, random); },
                           .match = "all",
                           .metrics = {"string_match_all", "string_match_strict", "empty_answers"},
                           .facts = {{"style", "RULER-style"}, {"ranks", ranks}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "fwe",
                     .summary = "RULER-style: the most frequent words of a coded text",
                     .schema = [](const Json&) { return text_schema(Json::object(), 50); },
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::fwe
