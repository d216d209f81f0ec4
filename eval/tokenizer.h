#pragma once
// A model's own tokenizer.  It runs in a Python process, because tokenizer.json has exactly one
// implementation that is always right: the `tokenizers` package (tokenizer.model: sentencepiece).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

class Tokenizer {
 public:
  /// tokenizer.json of a model directory, else its tokenizer.model.  E_NO_TOKENIZER: the directory
  /// has neither, or there is no Python with the package to read it (KVLAB_PYTHON names one; else
  /// the one of the environment kvlab lies in).  E_FORMAT: the file is not what it claims.
  explicit Tokenizer(const std::filesystem::path& model_directory);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Whether the tokens a model's tokenizer adds by itself (usually a first one) are added.
  enum class Special : unsigned char { none, as_model };
  /// E_FORMAT with the offset of the first byte that is not UTF-8.
  std::vector<int32_t> encode(std::string_view text, Special special);
  std::string decode(std::span<const int32_t> tokens);

  const std::filesystem::path& file() const;
  const std::string& sha256() const;  // of the file
  int64_t vocab_size() const;         // with added tokens

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab
