#pragma once
// Token files: a JSON list of integers, or integers separated by white space.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// Reads tokens from bytes that come in pieces of any size.  E_FORMAT: the first byte that does not
/// belong there, by its offset.  E_POSITION: a token outside the vocabulary, by its place.
class TokenParser {
 public:
  /// `where` names the source in errors; ids are in [0, vocab_size).
  TokenParser(std::string where, int64_t vocab_size);

  void feed(std::string_view bytes);
  /// Everything read; call it once, after the last piece.
  std::vector<int32_t> finish();

 private:
  enum class Form : unsigned char { unknown, list, plain };
  /// What may come next.  In a list: value_or_end after `[`, value after `,`, comma_or_end after a
  /// value, nothing after `]`.  A plain file only knows value.
  enum class Next : unsigned char { value, value_or_end, comma_or_end, nothing };

  void take(char byte);
  void take_outside(char byte);
  void begin_value(char byte);
  void end_value();
  [[noreturn]] void refuse(char byte) const;
  std::string_view expected() const;

  std::string where_;
  int64_t vocab_size_;
  int64_t offset_ = 0;
  Form form_ = Form::unknown;
  Next next_ = Next::value;
  bool in_value_ = false, negative_ = false;
  int64_t value_ = 0, digits_ = 0;
  std::vector<int32_t> tokens_{};
};

/// A file or pipe of tokens.  E_FILE as well.
std::vector<int32_t> read_token_file(const std::filesystem::path& path, int64_t vocab_size);

}  // namespace kvlab
