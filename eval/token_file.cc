#include "eval/token_file.h"

#include <utility>

#include "core/error.h"
#include "eval/text.h"

namespace kvlab {
namespace {

// Saturates far above any vocabulary, far below overflow.
constexpr int64_t kMostValue = 100'000'000'000'000'000;

bool is_space(char byte) { return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r'; }
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

std::string shown(char byte) {
  if (byte > ' ' && byte < 127) return std::string("`") + byte + "`";
  return "byte value " + std::to_string(static_cast<unsigned char>(byte));
}

}  // namespace

TokenParser::TokenParser(std::string where, int64_t vocab_size)
    : where_(std::move(where)), vocab_size_(vocab_size) {}

std::string_view TokenParser::expected() const {
  if (form_ == Form::unknown) return "`[` or an integer";
  if (in_value_ && digits_ == 0) return "a digit";
  if (form_ == Form::plain) return "integers and white space";
  switch (next_) {
    case Next::value:
      return "an integer";
    case Next::value_or_end:
      return "an integer or `]`";
    case Next::comma_or_end:
      return "`,` or `]`";
    case Next::nothing:
      return "nothing";
  }
  return "";
}

void TokenParser::refuse(char byte) const {
  fail("E_FORMAT", where_, ": ", shown(byte), " at byte ", offset_, ", expected ", expected(),
       "; a token file is a JSON list of integers, or integers separated by white space");
}

void TokenParser::begin_value(char byte) {
  in_value_ = true;
  negative_ = byte == '-';
  value_ = negative_ ? 0 : byte - '0';
  digits_ = negative_ ? 0 : 1;
}

void TokenParser::end_value() {
  const bool known = !negative_ && value_ < vocab_size_;
  KVLAB_REQUIRE(known, "E_POSITION", where_, ": token ", tokens_.size(), " is ",
                value_ >= kMostValue ? "beyond " : "", negative_ ? "-" : "", value_,
                ", outside the vocabulary 0..", vocab_size_ - 1);
  tokens_.push_back(static_cast<int32_t>(value_));
  in_value_ = false;
  if (form_ == Form::list) next_ = Next::comma_or_end;
}

/// A byte between values.
void TokenParser::take_outside(char byte) {
  if (is_space(byte)) return;
  const bool wants_value = next_ == Next::value || next_ == Next::value_or_end;
  if (wants_value && (is_digit(byte) || byte == '-')) {
    if (form_ == Form::unknown) form_ = Form::plain;
    begin_value(byte);
  } else if (form_ == Form::unknown && byte == '[') {
    form_ = Form::list;
    next_ = Next::value_or_end;
  } else if (form_ == Form::list && byte == ',' && next_ == Next::comma_or_end) {
    next_ = Next::value;
  } else if (form_ == Form::list && byte == ']' &&
             (next_ == Next::comma_or_end || next_ == Next::value_or_end)) {
    next_ = Next::nothing;
  } else {
    refuse(byte);
  }
}

void TokenParser::take(char byte) {
  if (!in_value_) return take_outside(byte);
  if (is_digit(byte)) {
    if (value_ < kMostValue) value_ = value_ * 10 + (byte - '0');
    ++digits_;
    return;
  }
  if (digits_ == 0) refuse(byte);
  if (form_ == Form::plain && !is_space(byte)) refuse(byte);
  end_value();
  take_outside(byte);
}

void TokenParser::feed(std::string_view bytes) {
  for (const char byte : bytes) {
    take(byte);
    ++offset_;
  }
}

std::vector<int32_t> TokenParser::finish() {
  const bool cut =
      (in_value_ && digits_ == 0) || (form_ == Form::list && (in_value_ || next_ != Next::nothing));
  KVLAB_REQUIRE(!cut, "E_FORMAT", where_, ": ends after ", offset_, " bytes, expected ",
                expected());
  if (in_value_) end_value();
  return std::move(tokens_);
}

std::vector<int32_t> read_token_file(const std::filesystem::path& path, int64_t vocab_size) {
  TokenParser parser(printable(path.native(), 400), vocab_size);
  read_blocks(path, [&parser](std::string_view block) { parser.feed(block); });
  return parser.finish();
}

}  // namespace kvlab
