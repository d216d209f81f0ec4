// Facts in sentences: needles, crowd and lists.

#include <algorithm>
#include <string>
#include <vector>

#include "eval/corpus/recall/form.h"
#include "eval/corpus/recall/kinds.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/values.h"

namespace kvlab::corpus {
namespace {

/// How a fact is told and asked for.  After the question the key is named once more, then `link`
/// leads to the value.
struct Wording {
  std::string_view fact, question, link;
};

constexpr Wording kWordings[] = {
    {"The secret {t} of {k} is {v}.", "What is the secret {t} of {k}? The secret {t} of", " is"},
    {"The {t} for {k} is {v}.", "Which {t} is for {k}? The {t} for", " is"},
    {"Remember that {k} has the {t} {v}.", "Which {t} does {k} have? I remember that",
     " has the {t}"},
    {"In the book {k} keeps the {t} {v}.", "What does {k} keep? In the book", " keeps the {t}"},
    {"Note: {k} -> {v}.", "Recall {k}. Note:", " ->"},
};
constexpr int64_t kWordingWeights[] = {6, 1, 1, 1, 1};  // the first is that of the needle tasks

/// Rough tokens of a fact, and of a question with its answer.
struct Cost {
  int64_t fact, question;
};
constexpr Cost cost_of(ValueKind kind) {
  switch (kind) {
    case ValueKind::numbers:
      return {22, 46};
    case ValueKind::words:
      return {24, 50};
    case ValueKind::uuids:
      break;
  }
  return {50, 80};
}

ValueKind draw_kind(SplitMix64& random, int64_t tokens) {
  constexpr int64_t kWeights[] = {5, 12, 3};
  const auto kind = static_cast<ValueKind>(weighted(random, kWeights));
  return kind == ValueKind::uuids && tokens < 256 ? ValueKind::numbers : kind;
}

struct Fact {
  std::string key{}, value{};
};

std::vector<Fact> draw_facts(SplitMix64& random, int64_t count, ValueKind kind) {
  Distinct distinct;
  std::vector<Fact> facts;
  while (std::ssize(facts) < count) {
    const ValueKind keys = random.below(8) == 0 ? ValueKind::numbers : ValueKind::words;
    std::string key = distinct.value(random, keys);
    facts.push_back({std::move(key), distinct.value(random, kind)});
  }
  return facts;
}

std::vector<std::string> sentences(const std::vector<Fact>& facts, std::string_view form,
                                   ValueKind kind) {
  std::vector<std::string> told;
  for (const Fact& fact : facts)
    told.push_back(filled(form, {.k = fact.key, .v = fact.value, .t = singular(kind)}));
  return told;
}

void ask(Draft& draft, const Wording& wording, const Fact& fact, ValueKind kind) {
  const Filling filling{.k = fact.key, .v = fact.value, .t = singular(kind)};
  draft.add(filled(wording.question, filling) + " " + fact.key + filled(wording.link, filling));
  draft.answer(" " + fact.value);
  draft.add(".\n");
}

Draft told_and_asked(const Source& source, SplitMix64& random, int64_t tokens, ValueKind kind,
                     int64_t count, int64_t asked) {
  const Wording& wording = kWordings[weighted(random, kWordingWeights)];
  const Cost cost = cost_of(kind);
  const std::vector<Fact> facts = draw_facts(random, count, kind);
  const int64_t left = tokens - count * cost.fact - asked * cost.question;
  Draft draft;
  draft.add(scattered(random, source.filler(random, source.draw_filler(random), left),
                      sentences(facts, wording.fact, kind)));
  draft.add("\n");
  for (const Fact& fact : random.sample(facts, static_cast<size_t>(asked)))
    ask(draft, wording, fact, kind);
  return draft;
}

}  // namespace

Draft needles(const Source& source, SplitMix64& random, int64_t tokens) {
  const ValueKind kind = draw_kind(random, tokens);
  const Cost cost = cost_of(kind);
  const int64_t most = std::max<int64_t>(1, tokens / (cost.fact + cost.question));
  // Questions fill half of a dense document.
  const int64_t half = std::max<int64_t>(1, tokens / (2 * cost.question));
  const bool is_dense = random.below(3) != 0;
  const int64_t count = is_dense ? between(random, std::max<int64_t>(1, half * 3 / 4), half)
                                 : std::min(most, between(random, 1, 4));
  return told_and_asked(source, random, tokens, kind, count, count);
}

Draft crowd(const Source& source, SplitMix64& random, int64_t tokens) {
  const ValueKind kind = draw_kind(random, tokens);
  const Cost cost = cost_of(kind);
  const int64_t asked = std::clamp<int64_t>(tokens / 200, 1, 8);
  const int64_t count = std::max(asked, (tokens - asked * cost.question) / cost.fact);
  return told_and_asked(source, random, tokens, kind, count, asked);
}

Draft lists(const Source& source, SplitMix64& random, int64_t tokens) {
  constexpr ValueKind kKind = ValueKind::numbers;
  constexpr std::string_view kFact = kWordings[0].fact;
  const bool is_one_key = random.below(2) == 0;
  const int64_t most = std::clamp<int64_t>((tokens - 60) / 45, 2, 4);
  const int64_t count = between(random, 2, most);
  std::vector<Fact> facts =
      draw_facts(random, is_one_key ? count : between(random, count, most), kKind);
  if (is_one_key)
    for (Fact& fact : facts) fact.key = facts[0].key;
  const int64_t left = tokens - std::ssize(facts) * 22 - count * (is_one_key ? 9 : 30) - 30;
  Draft draft;
  draft.add(scattered(random, source.filler(random, source.draw_filler(random), left),
                      sentences(facts, kFact, kKind)));
  draft.add("\n");
  std::vector<std::string> keys, values;
  for (const Fact& fact : is_one_key ? facts : random.sample(facts, static_cast<size_t>(count))) {
    if (keys.empty() || !is_one_key) keys.push_back(fact.key);
    values.push_back(fact.value);
  }
  draft.add(needle_question(kKind, keys, false) + needle_answer_prefix(kKind, keys, false));
  draft.answer(" " + joined(values, ", "));
  draft.add(".\n");
  return draft;
}

}  // namespace kvlab::corpus
