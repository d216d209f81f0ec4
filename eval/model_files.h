#pragma once
// The files a model directory is made of, and its texts.

#include "core/json.h"
#include "eval/task.h"

namespace kvlab {

/// [{"path", "sha256", "bytes"}] of config, index and weight files; [] for built-in models.
Json digest_model(const Json& spec);
/// One digest of all of them; the spec's own for built-in models.
std::string model_sha(const Json& spec, const Json& files);

/// The model's own; `why` says what it is wanted for.  E_NO_TOKENIZER.
std::shared_ptr<Tokenizer> tokenizer_of(const Json& spec, std::string_view why);
/// A UTF-8 file through the tokenizer of a model: E_FILE, E_FORMAT.
Text read_text_tokens(Tokenizer& tokenizer, const std::filesystem::path& path);
/// A token file.
Text read_token_text(const std::filesystem::path& path, int64_t vocab_size);

}  // namespace kvlab
