#pragma once
// A tokenizer whose tokens are bytes.

#include "eval/tokenizer.h"

namespace kvlab::test {

/// Byte b is token b; a 0 stands in front of what a model reads.
class Letters final : public Tokenizer {
 public:
  TokenSpans encode_spans(std::string_view text, Special special) override {
    TokenSpans spans;
    if (special == Special::as_model) spans = {.tokens = {0}, .bytes = {{0, 0}}};
    for (size_t i = 0; i < text.size(); ++i) {
      spans.tokens.push_back(static_cast<unsigned char>(text[i]));
      spans.bytes.push_back({static_cast<int64_t>(i), static_cast<int64_t>(i) + 1});
    }
    return spans;
  }
  std::string decode(std::span<const int32_t> tokens) override {
    std::string text;
    for (const int32_t token : tokens) text += static_cast<char>(token);
    return text;
  }
  const std::string& sha256() const override { return name_; }

 private:
  std::string name_ = "letters";
};

}  // namespace kvlab::test
