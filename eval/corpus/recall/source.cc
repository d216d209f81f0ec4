#include "eval/corpus/recall/source.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "eval/synthetic/haystack.h"
#include "eval/synthetic/hidden.h"
#include "eval/synthetic/prose.h"

namespace kvlab::corpus {
namespace {

// Rough sizes in tokens of a byte-level vocabulary of a few thousand; documents are fitted to their
// length afterwards.
constexpr int64_t kNoiseTokens = 34, kProseTokens = 8, kWordTokens = 3;

}  // namespace

size_t weighted(SplitMix64& random, std::span<const int64_t> weights) {
  const int64_t all = std::accumulate(weights.begin(), weights.end(), int64_t{0});
  KVLAB_CHECK(all > 0);
  auto at = static_cast<int64_t>(random.below(static_cast<uint64_t>(all)));
  size_t i = 0;
  for (; at >= weights[i]; ++i) at -= weights[i];
  return i;
}

int64_t between(SplitMix64& random, int64_t first, int64_t last) {
  KVLAB_CHECK(first <= last);
  return first + static_cast<int64_t>(random.below(static_cast<uint64_t>(last - first + 1)));
}

Filler Source::draw_filler(SplitMix64& random) const {
  return static_cast<Filler>(random.below(3));
}

std::vector<std::string> Source::filler(SplitMix64& random, Filler kind, int64_t tokens) const {
  std::vector<std::string> pieces;
  switch (kind) {
    case Filler::noise:
      pieces.assign(static_cast<size_t>(std::max<int64_t>(0, tokens / kNoiseTokens)), noise_unit());
      break;
    case Filler::text:
      if (!words_.empty()) return text(random, tokens);
      [[fallthrough]];
    case Filler::prose:
      for (int64_t left = tokens; left >= kProseTokens; left -= kProseTokens)
        pieces.push_back(prose_sentence(random));
      break;
  }
  return pieces;
}

std::vector<std::string> Source::text(SplitMix64& random, int64_t tokens) const {
  std::vector<std::string> pieces;
  const auto count =
      std::min<int64_t>(std::max<int64_t>(0, tokens / kWordTokens), std::ssize(words_));
  int64_t at = between(random, 0, std::ssize(words_) - count);
  for (const int64_t last = at + count; at < last;) {
    const int64_t end = std::min(last, at + between(random, 4, 18));
    std::string piece;
    for (; at < end; ++at) piece += (piece.empty() ? "" : " ") + words_[static_cast<size_t>(at)];
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

std::string scattered(SplitMix64& random, std::span<const std::string> pieces,
                      std::span<const std::string> needles) {
  std::vector<size_t> slots(needles.size());
  for (size_t& slot : slots) slot = random.below(pieces.size() + 1);
  std::ranges::sort(slots);
  return hide(pieces, needles, slots).text;
}

}  // namespace kvlab::corpus
