#pragma once
// Text to tokens and back.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"

namespace kvlab {

/// Tokens with the bytes of the text that each stands for; those that were added stand for none.
struct TokenSpans {
  std::vector<int32_t> tokens{};
  std::vector<Range> bytes{};
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Whether the tokens a model's tokenizer adds by itself (usually a first one) are added.
  enum class Special : unsigned char { none, as_model };
  /// E_FORMAT with the offset of the first byte that is not UTF-8.
  virtual TokenSpans encode_spans(std::string_view text, Special special) = 0;
  virtual std::string decode(std::span<const int32_t> tokens) = 0;
  virtual const std::string& sha256() const = 0;  // of what it was made from
  /// What a user says, as a conversation that the model is to answer.  E_UNSUPPORTED: the tokenizer
  /// comes without a chat template.  E_FORMAT: its template fails.
  virtual std::string chat(std::string_view prompt);

  std::vector<int32_t> encode(std::string_view text, Special special) {
    return encode_spans(text, special).tokens;
  }
};

/// A model's own.  It runs in a Python process, because tokenizer.json has exactly one
/// implementation that is always right: the `tokenizers` package (tokenizer.model: sentencepiece).
class ModelTokenizer final : public Tokenizer {
 public:
  /// tokenizer.json of a model directory, else its tokenizer.model.  E_NO_TOKENIZER: the directory
  /// has neither, or there is no Python with the package to read it (KVLAB_PYTHON names one; else
  /// the one of the environment kvlab lies in).  E_FORMAT: the file is not what it claims.
  explicit ModelTokenizer(const std::filesystem::path& model_directory);
  ~ModelTokenizer() override;
  ModelTokenizer(ModelTokenizer&&) noexcept;
  ModelTokenizer& operator=(ModelTokenizer&&) noexcept;

  TokenSpans encode_spans(std::string_view text, Special special) override;
  std::string decode(std::span<const int32_t> tokens) override;
  const std::string& sha256() const override;
  /// The Jinja template of chat_template.jinja or tokenizer_config.json beside the tokenizer, in
  /// jinja2's sandbox: one user message, add_generation_prompt.  It knows no date.
  std::string chat(std::string_view prompt) override;

  const std::filesystem::path& file() const;
  int64_t vocab_size() const;  // with added tokens

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab
