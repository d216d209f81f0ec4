#pragma once
// The files a model directory is made of, and its texts.

#include "core/json.h"
#include "eval/task.h"

namespace kvlab {

/// [{"path", "sha256", "bytes"}] of config, index and weight files; [] for built-in models.
Json digest_model(const Json& spec);
/// One digest of all of them; the spec's own for built-in models.
std::string model_sha(const Json& spec, const Json& files);

/// A UTF-8 file through the tokenizer of the model: E_NO_TOKENIZER, E_FILE, E_FORMAT.
Text read_text_tokens(const Json& spec, const std::filesystem::path& path);
/// A token file.
Text read_token_text(const std::filesystem::path& path, int64_t vocab_size);

}  // namespace kvlab
