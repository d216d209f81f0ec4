// Keys with values, and the same keys again in any order: every line of the second part is a
// question that the first part answers.

#include <algorithm>
#include <string>
#include <vector>

#include "eval/corpus/recall/form.h"
#include "eval/corpus/recall/kinds.h"
#include "eval/synthetic/values.h"

namespace kvlab::corpus {
namespace {

/// A document: `open`, then facts, `close`, then for each question `ask`, the value and `end`.  A
/// space before the value belongs to it.
struct Layout {
  std::string_view open, fact, close, ask, end;
};

constexpr Layout kLayouts[] = {
    {"", "{k}: {v}\n", "\n", "{k}: ", "\n"},
    {"", "{k} = {v}\n", "\n", "{k} = ", "\n"},
    {"", "{k} -> {v}\n", "\n", "{k} -> ", "\n"},
    {"", "{k}={v}; ", "\n", "{k}=", "; "},
    {"", "{k} is {v}. ", "\n", "{k} is ", ". "},
    {"", "The number of {k} is {v}. ", "\n", "The number of {k} is ", ". "},
    {"", "({k}, {v})\n", "\n", "({k}, ", ")\n"},
    {"| key | value |\n|---|---|\n", "| {k} | {v} |\n", "\n", "| {k} | ", " |\n"},
    {"{\n", "  \"{k}\": \"{v}\",\n", "}\n\n", "\"{k}\": \"", "\"\n"},
    {"table = {\n", "    '{k}': '{v}',\n", "}\n\n", "assert table['{k}'] == '", "'\n"},
    {"", "{k} = '{v}'\n", "\n", ">>> {k}\n'", "'\n"},
    {"", "def f(*, {k}='{v}'): ...\n", "\n", "f({k}='", "')\n"},
};

enum class KeyKind : unsigned char { short_word, word, pair, number, letters };
enum class ValueForm : unsigned char { digits, syllables, letters };

std::string digits(SplitMix64& random, int64_t count) {
  std::string text(1, static_cast<char>('1' + random.below(9)));
  while (std::ssize(text) < count) text += static_cast<char>('0' + random.below(10));
  return text;
}

std::string syllables(SplitMix64& random, int64_t count) {  // of the words of values.h
  std::string text;
  while (std::ssize(text) < 2 * count) text += draw_value(random, ValueKind::words);
  return text.substr(0, static_cast<size_t>(2 * std::min<int64_t>(count, 3)));
}

std::string draw_key(SplitMix64& random, KeyKind kind) {
  switch (kind) {
    case KeyKind::short_word:
      return syllables(random, 2);
    case KeyKind::word:
      return syllables(random, 3);
    case KeyKind::pair:
      return draw_value(random, ValueKind::words);
    case KeyKind::number:
      return digits(random, 4);
    case KeyKind::letters:
      break;
  }
  return draw_letters(random, 'A', 4);
}

std::string draw_answer(SplitMix64& random, ValueForm form, int64_t size) {
  switch (form) {
    case ValueForm::digits:
      return digits(random, size);
    case ValueForm::syllables:
      return syllables(random, 1 + size % 3);
    case ValueForm::letters:
      break;
  }
  return draw_letters(random, 'A', 2 + static_cast<int>(size % 3));
}

}  // namespace

Draft lookups(const Source& source, SplitMix64& random, int64_t tokens) {
  constexpr int64_t kFormWeights[] = {3, 1, 1};
  const Layout& layout = kLayouts[random.below(std::size(kLayouts))];
  const auto keys = static_cast<KeyKind>(random.below(5));
  const auto values = static_cast<ValueForm>(weighted(random, kFormWeights));
  const int64_t size = between(random, 1, 7);
  const int64_t cost =
      6 + (keys == KeyKind::pair ? 7 : 3) + (values == ValueForm::digits ? size : 3);
  const int64_t lines = std::max<int64_t>(4, tokens / cost);
  const int64_t filler_share = random.below(3) == 0 ? between(random, 10, 40) : 0;  // percent
  const int64_t in_use = std::max<int64_t>(4, lines * (100 - filler_share) / 100);
  const int64_t count = std::clamp<int64_t>(in_use * between(random, 15, 50) / 100, 2, 500);

  Distinct distinct;
  std::vector<std::pair<std::string, std::string>> facts;
  while (std::ssize(facts) < count) {
    std::string key = distinct([&] { return draw_key(random, keys); });
    facts.emplace_back(std::move(key), draw_answer(random, values, size));
  }
  Draft draft;
  draft.add(layout.open);
  for (const auto& [key, value] : facts) draft.add(filled(layout.fact, {.k = key, .v = value}));
  draft.add(layout.close);
  for (const std::string& piece :
       source.filler(random, source.draw_filler(random), tokens * filler_share / 100))
    draft.add(piece + "\n");
  for (int64_t asked = count; asked < in_use;) {
    random.shuffle(facts);
    for (size_t i = 0; i < facts.size() && asked < in_use; ++i, ++asked) {
      std::string ask = filled(layout.ask, {.k = facts[i].first});
      const bool has_space = ask.ends_with(' ');
      if (has_space) ask.pop_back();
      draft.add(ask);
      draft.answer((has_space ? " " : "") + facts[i].second);
      draft.add(layout.end);
    }
  }
  return draft;
}

}  // namespace kvlab::corpus
