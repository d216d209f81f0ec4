#pragma once
// A tokenizer small enough to be worked by hand: a byte is a token, but "ab" is one of its own, and
// a BOS stands ahead of a text.

#include "eval/tokenizer.h"

namespace kvlab::test {

class BytesTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kBos = 256, kAb = 257;
  static constexpr int64_t kVocab = 258;
  bool adds_bos = true, adds_end = false;
  int32_t mask = 0x1FF;  // of the ids, for models with few

  TokenSpans encode_spans(std::string_view text, Special special) override {
    TokenSpans spans;
    const auto add = [&](int32_t token, int64_t first, int64_t last) {
      spans.tokens.push_back(token & mask);
      spans.bytes.push_back({first, last});
    };
    if (special == Special::as_model && adds_bos) add(kBos, 0, 0);
    for (size_t i = 0; i < text.size(); ++i) {
      const bool pair = text.substr(i, 2) == "ab";
      const auto at = static_cast<int64_t>(i);
      add(pair ? kAb : static_cast<unsigned char>(text[i]), at, at + (pair ? 2 : 1));
      if (pair) ++i;
    }
    if (special == Special::as_model && adds_end) add(kBos, 0, 0);
    return spans;
  }
  std::string decode(std::span<const int32_t> tokens) override {
    std::string text;
    for (const int32_t token : tokens)
      text += token == kAb    ? "ab"
              : token == kBos ? "<s>"
                              : std::string(1, static_cast<char>(token));
    return text;
  }
  const std::string& sha256() const override { return name_; }
  std::string chat(std::string_view prompt) override {
    return "<u>" + trimmed(std::string(prompt)) + "</u><a>";
  }

 private:
  static std::string trimmed(std::string text) {
    text.erase(0, text.find_first_not_of(" \n"));
    return text.substr(0, text.find_last_not_of(" \n") + 1);
  }
  std::string name_ = "bytes";
};

}  // namespace kvlab::test
