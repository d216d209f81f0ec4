#pragma once
// A trained decoder as a Hugging Face directory.

#include <filesystem>
#include <vector>

#include "core/json.h"
#include "eval/train/adamw.h"

namespace kvlab {

/// Writes config.json (`model` with "dtype": "bfloat16"), model.safetensors (bfloat16, rounded to
/// nearest) and, from `corpus`, tokenizer.json and tokenizer_config.json where they are.  E_DISK.
void export_model(const std::filesystem::path& directory, const Json& model,
                  const std::vector<NamedParameter>& parameters,
                  const std::filesystem::path& corpus);

}  // namespace kvlab
