#pragma once
// The files of a corpus directory that batches and validation are cut from.

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/types.h"

namespace kvlab {

/// Tokens as they lie on disk: uint16, little-endian.
class TokenSource {
 public:
  /// E_FILE, E_FORMAT.  With `marks`, one byte per token, beside it.
  TokenSource(const std::filesystem::path& tokens, const std::filesystem::path& marks);
  ~TokenSource();
  TokenSource(TokenSource&&) noexcept;

  std::span<const uint16_t> tokens() const { return tokens_; }
  /// 1 where the document determines the token; empty for text.
  std::span<const u8> marks() const { return marks_; }
  /// Of recall files: tokens [first, last) of each, by the `begin` token they start with.
  const std::vector<Range>& documents() const { return documents_; }
  void split(int32_t begin, const std::string& where);

 private:
  struct Files;
  std::unique_ptr<Files> files_;
  std::span<const uint16_t> tokens_{};
  std::span<const u8> marks_{};
  std::vector<Range> documents_{};
};

/// "text" is text-train.bin, "text-valid" text-valid.bin, "recall-512" recall-512.bin and .marks.
class TokenSources {
 public:
  /// E_FILE: a file is missing.  E_FORMAT: not whole tokens, a token outside the vocabulary, marks
  /// of another length, a recall file that does not begin with `begin`.
  TokenSources(std::filesystem::path directory, int64_t vocab_size, int32_t begin);
  const TokenSource& at(const std::string& name);

 private:
  std::filesystem::path directory_;
  int64_t vocab_size_;
  int32_t begin_;
  std::map<std::string, TokenSource> open_{};
};

bool is_recall(std::string_view source);

}  // namespace kvlab
