#pragma once
// A recall document before it has tokens: text in which the stretches that it determines by itself
// are marked.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"

namespace kvlab::corpus {

class Draft {
 public:
  void add(std::string_view text) { text_ += text; }
  /// The same, and a reader who remembers the document could have written it.
  void answer(std::string_view text) {
    const auto begin = static_cast<int64_t>(text_.size());
    text_ += text;
    answers_.push_back({begin, static_cast<int64_t>(text_.size())});
  }
  /// Text up to here names the answer; where `text` begins with a space the answer does too.
  const std::string& text() const { return text_; }
  const std::vector<Range>& answers() const { return answers_; }  // bytes, rising

 private:
  std::string text_{};
  std::vector<Range> answers_{};
};

/// Tokens without a first one, and which of them the document determines.
struct Marked {
  std::vector<int32_t> tokens{};
  std::vector<uint8_t> marks{};
};

}  // namespace kvlab::corpus
