// Common words: a numbered list in which ten words stand more often than the others.  RULER-style;
// a solved small list comes first.
//
// Draws, in this order: the ten common words, the example's words (its common ones first), the
// shuffle of the example's list, the other words, the shuffle of the list; all words distinct.
// Before a shuffle a list holds its words in the order drawn, a word's copies side by side.

#include "eval/catalogue.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"

namespace kvlab::tasks::cwe {
namespace {

constexpr size_t kCommon = 10;
constexpr int64_t kShort = 4096;  // tokens, from which on words are repeated more often

struct Counts {
  size_t words = 0;  // of the example; a list's own number depends on its length
  int common = 0, other = 0;
};
struct Shape {
  Counts list{}, example{};
};

Shape shape_of(int64_t length) {
  if (length < kShort) return {{.common = 6, .other = 1}, {.words = 20, .common = 3, .other = 1}};
  return {{.common = 30, .other = 3}, {.words = 40, .common = 10, .other = 3}};
}

std::vector<std::string> draw_words(SplitMix64& random, Distinct& distinct, size_t count) {
  std::vector<std::string> words;
  while (words.size() < count) words.push_back(distinct.value(random, ValueKind::words));
  return words;
}

/// "1. a 2. b 3. a ...": the first ten words are the common ones.
std::string list_of(SplitMix64& random, const std::vector<std::string>& words,
                    const Counts& counts) {
  std::vector<std::string> entries;
  for (size_t i = 0; i < words.size(); ++i)
    entries.insert(entries.end(), static_cast<size_t>(i < kCommon ? counts.common : counts.other),
                   words[i]);
  random.shuffle(entries);
  for (size_t i = 0; i < entries.size(); ++i) entries[i].insert(0, std::to_string(i + 1) + ". ");
  return joined(entries, " ");
}

constexpr const char* kQuestion = "Which 10 words occur most often in the list above?";
constexpr const char* kAnswerPrefix = " The 10 words that occur most often are";

TextQuestion make(const Shape& shape, SplitMix64& random, int64_t units) {
  Distinct distinct;
  std::vector<std::string> words = draw_words(random, distinct, kCommon);
  const auto shown = draw_words(random, distinct, shape.example.words);
  const std::string example = list_of(random, shown, shape.example);
  TextQuestion question{.turns = {{.query = kQuestion, .answer_prefix = kAnswerPrefix}}};
  question.turns[0].answers = words;
  for (std::string& word : draw_words(random, distinct, static_cast<size_t>(units)))
    words.push_back(std::move(word));
  question.context = example + "\n" + kQuestion + kAnswerPrefix + " " +
                     joined(std::span(shown).first(kCommon), ", ") + ".\n\n" +
                     list_of(random, words, shape.list) + "\n";
  return question;
}

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const Shape shape = shape_of(params.at("length"));
  return text_work(setup, {.name = "cwe",
                           .lengths = {params.at("length")},
                           .samples_per_length = params.at("samples"),
                           .least_units = 1,
                           .make = [=](SplitMix64& random, int64_t,
                                       int64_t units) { return make(shape, random, units); },
                           .match = "all",
                           .metrics = {"string_match_all", "string_match_strict", "empty_answers"},
                           .facts = {{"style", "RULER-style"}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "cwe",
                     .summary = "RULER-style: the words of a list that occur most often",
                     .schema = [](const Json&) { return text_schema(Json::object(), 120); },
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::cwe
