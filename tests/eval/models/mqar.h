#pragma once
// What the recall model is asked.  Multi-query associative recall, from its text: [0, k1, v1, ...,
// kn, vn], then two-token slots of filler 0; the first token of n of them is a key, whose value is
// to follow.

#include <algorithm>
#include <vector>

#include "eval/random.h"

namespace kvlab::test {

struct Mqar {
  std::vector<int32_t> tokens{};
  struct Label {
    int64_t row = 0;  // whose logits are judged
    int32_t token = 0;
  };
  std::vector<Label> labels{};
};

/// `context` tokens, pairs first and then filler, and after them one slot per pair in the order of
/// the pairs.
inline Mqar mqar_then_queries(uint64_t seed, int32_t vocab, size_t pairs, size_t context) {
  SplitMix64 random = random_stream(seed, "mqar", 0);
  const std::vector<int32_t> keys = random.sample_range(1, vocab / 2, pairs);
  const std::vector<int32_t> values = random.sample_range(vocab / 2, vocab, pairs);
  Mqar sample{.tokens = {0}};
  for (size_t i = 0; i < pairs; ++i)
    sample.tokens.insert(sample.tokens.end(), {keys[i], values[i]});
  sample.tokens.resize(context, 0);
  for (size_t i = 0; i < pairs; ++i) {
    sample.labels.push_back({static_cast<int64_t>(sample.tokens.size()), values[i]});
    sample.tokens.insert(sample.tokens.end(), {keys[i], 0});
  }
  return sample;
}

/// N tokens, the slots drawn without replacement.
inline Mqar mqar(uint64_t seed, int32_t vocab, size_t pairs, size_t length) {
  SplitMix64 random = random_stream(seed, "mqar", 0);
  const std::vector<int32_t> keys = random.sample_range(1, vocab / 2, pairs);
  const std::vector<int32_t> values = random.sample_range(vocab / 2, vocab, pairs);
  const auto slots = static_cast<int32_t>((length - 1 - 2 * pairs) / 2);
  const std::vector<int32_t> chosen = random.sample_range(0, slots, pairs);
  Mqar sample{.tokens = {0}};
  for (size_t i = 0; i < pairs; ++i)
    sample.tokens.insert(sample.tokens.end(), {keys[i], values[i]});
  sample.tokens.resize(length, 0);
  for (size_t i = 0; i < pairs; ++i) {
    const size_t at = 1 + 2 * pairs + 2 * static_cast<size_t>(chosen[i]);
    sample.tokens[at] = keys[i];
    sample.labels.push_back({static_cast<int64_t>(at), values[i]});
  }
  std::ranges::sort(sample.labels, {}, &Mqar::Label::row);
  return sample;
}

/// [0, text, separator 1, text without its last token]: every token of the text but the first is to
/// follow once more.
inline Mqar repeated(uint64_t seed, int32_t vocab, size_t length) {
  const std::vector<int32_t> text = SplitMix64(seed).sample_range(2, vocab, length);
  Mqar sample{.tokens = {0}};
  sample.tokens.insert(sample.tokens.end(), text.begin(), text.end());
  sample.tokens.push_back(1);
  sample.tokens.insert(sample.tokens.end(), text.begin(), text.end() - 1);
  for (size_t i = 1; i < length; ++i)
    sample.labels.push_back({static_cast<int64_t>(length + 1 + i), text[i]});
  return sample;
}

}  // namespace kvlab::test
