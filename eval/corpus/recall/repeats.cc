// The same again: passages of text, and stretches of random tokens.

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "eval/corpus/recall/kinds.h"
#include "eval/synthetic/haystack.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/values.h"

namespace kvlab::corpus {
namespace {

/// What has followed tokens so far; a second continuation makes them say nothing.
class Continuations {
 public:
  bool determine(const std::vector<int32_t>& tokens) const {  // the last token from those before it
    const size_t n = tokens.size();
    return (n > 1 && is(one_, {-1, tokens[n - 2]}, tokens[n - 1])) ||
           (n > 2 && is(two_, {tokens[n - 3], tokens[n - 2]}, tokens[n - 1]));
  }
  void learn(const std::vector<int32_t>& tokens) {
    const size_t n = tokens.size();
    if (n > 1) add(one_, {-1, tokens[n - 2]}, tokens[n - 1]);
    if (n > 2) add(two_, {tokens[n - 3], tokens[n - 2]}, tokens[n - 1]);
  }

 private:
  static constexpr int32_t kSeveral = -1;
  using Map = std::map<std::pair<int32_t, int32_t>, int32_t>;
  static bool is(const Map& map, std::pair<int32_t, int32_t> key, int32_t next) {
    const auto found = map.find(key);
    return found != map.end() && found->second == next;
  }
  static void add(Map& map, std::pair<int32_t, int32_t> key, int32_t next) {
    const auto [at, fresh] = map.emplace(key, next);
    if (!fresh && at->second != next) at->second = kSeveral;
  }
  Map one_{}, two_{};
};

/// 8 .. most, as often below 16 as from 16 to 31, and so on.
int64_t draw_size(SplitMix64& random, int64_t most) {
  int64_t low = 8;
  int64_t doublings = 0;
  while (low << (doublings + 1) <= most) ++doublings;
  low <<= random.below(static_cast<uint64_t>(doublings + 1));
  return std::min(most, between(random, low, 2 * low - 1));
}

std::string passage(const Source& source, SplitMix64& random, int64_t tokens) {
  if (random.below(2) == 0) {  // of words that nobody can guess
    std::vector<std::string> words;
    for (int64_t left = tokens; left > 0; left -= 4)
      words.push_back(draw_value(random, ValueKind::words).substr(0, 6));
    return joined(words, " ");
  }
  const Filler kind = random.below(2) == 0 ? Filler::prose : Filler::text;
  return joined(source.filler(random, kind, std::max<int64_t>(8, tokens)), " ");
}

/// The words that name a passage, and what follows from them.
struct Passage {
  std::string head{}, rest{};
};

Passage cut(const std::string& text) {
  size_t at = 0;
  for (int word = 0; word < 3 && at != text.npos; ++word) at = text.find(' ', at + 1);
  at = std::min(at, text.size());
  return {text.substr(0, at), text.substr(at)};
}

}  // namespace

Draft passages(const Source& source, SplitMix64& random, int64_t tokens) {
  Draft draft;
  int64_t left = tokens;
  std::vector<Passage> told;
  const int64_t size = draw_size(random, std::clamp<int64_t>(tokens / 3, 8, 200));
  const int64_t count = std::max<int64_t>(1, tokens * between(random, 25, 45) / 100 / size);
  for (; std::ssize(told) < count; left -= size) {
    Passage drawn = cut(passage(source, random, size));
    while (std::ranges::any_of(told, [&](const Passage& one) { return one.head == drawn.head; }))
      drawn = cut(passage(source, random, size));
    draft.add(drawn.head + drawn.rest + "\n");
    told.push_back(std::move(drawn));
  }
  for (; left >= size; left -= size) {
    const Passage& again = told[random.below(told.size())];
    draft.add(again.head);
    draft.answer(again.rest);
    draft.add("\n");
  }
  return draft;
}

Marked repeats(SplitMix64& random, int64_t tokens, int64_t vocabulary) {
  // A few tokens, the commonest of the vocabulary (merges are numbered as they were found), any.
  constexpr int64_t kPoolWeights[] = {7, 8, 5};
  const int64_t pools[] = {between(random, 8, 64), 1000, vocabulary - 1};
  const size_t drawn_pool = weighted(random, kPoolWeights);
  const int64_t pool = std::min(pools[drawn_pool], vocabulary - 1);
  const int64_t first = drawn_pool == 0 ? between(random, 1, vocabulary - pool) : 1;
  const auto draw = [&](int64_t count) {
    std::vector<int32_t> drawn;
    while (std::ssize(drawn) < count)
      drawn.push_back(static_cast<int32_t>(between(random, first, first + pool - 1)));
    return drawn;
  };
  const std::vector<int32_t> stretch = draw(draw_size(random, std::max<int64_t>(8, tokens / 2)));
  const bool has_gaps = random.below(2) == 0;
  Marked made;
  Continuations known;
  const auto add = [&](std::span<const int32_t> part, bool is_again) {
    for (size_t i = 0; i < part.size() && std::ssize(made.tokens) < tokens; ++i) {
      made.tokens.push_back(part[i]);
      made.marks.push_back(is_again && i > 0 && known.determine(made.tokens) ? 1 : 0);
      known.learn(made.tokens);
    }
  };
  for (bool is_again = false; std::ssize(made.tokens) < tokens; is_again = true) {
    add(stretch, is_again);
    if (has_gaps) add(draw(between(random, 1, 8)), false);
  }
  return made;
}

}  // namespace kvlab::corpus
