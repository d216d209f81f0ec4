#include "eval/corpus/recall/fit.h"

#include <algorithm>

#include "core/error.h"

namespace kvlab::corpus {

Marked marked(Tokenizer& tokenizer, const Draft& draft) {
  const TokenSpans spans = tokenizer.encode_spans(draft.text(), Tokenizer::Special::none);
  Marked made{.tokens = spans.tokens, .marks = std::vector<uint8_t>(spans.tokens.size(), 0)};
  size_t answer = 0;
  const std::vector<Range>& answers = draft.answers();
  for (size_t i = 0; i < spans.bytes.size(); ++i) {
    while (answer < answers.size() && answers[answer].last <= spans.bytes[i].first) ++answer;
    if (answer < answers.size() && answers[answer].first < spans.bytes[i].last) made.marks[i] = 1;
  }
  return made;
}

Marked fitted(Tokenizer& tokenizer, const Source& source, const Kind& kind, SplitMix64 random,
              int64_t length) {
  Marked best;
  int64_t size = length, shortest = INT64_MAX;
  for (int i = 0; size > 0 && (i < kTries || best.tokens.empty()); ++i) {
    SplitMix64 again = random;
    Marked made = marked(tokenizer, kind.make(source, again, size));
    const auto tokens = std::ssize(made.tokens);
    shortest = std::min<int64_t>(shortest, tokens);
    if (tokens <= length && made.tokens.size() > best.tokens.size()) best = std::move(made);
    if (10 * std::ssize(best.tokens) >= 9 * length) break;
    // 2 % less than what would fit exactly, since sizes do not grow evenly; what was too long once
    // is not asked for again.
    const int64_t next = size * length * 98 / (std::max<int64_t>(1, tokens) * 100);
    size = tokens > length ? std::min(next, size * 9 / 10) : next;
  }
  KVLAB_REQUIRE(!best.tokens.empty(), "E_CONFIG", "recall: a document of kind `", kind.name,
                "` takes ", shortest, " tokens at its shortest, ", length,
                " are there; give it a share of 0 at this length");
  return best;
}

}  // namespace kvlab::corpus
