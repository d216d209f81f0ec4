#pragma once
// Models of the Llama family in a Hugging Face directory: config.json, safetensors weights and, if
// there, generation_config.json.

#include <filesystem>
#include <optional>

#include "eval/models/decoder_model.h"

namespace kvlab {

struct HuggingFaceSpec {
  std::filesystem::path directory{};
  std::optional<Dtype> dtype{};  // run dtype; absent: what the config states, else the embedding's
  LongRope longrope = LongRope::for_short;
};

/// Without the weights.
DecoderConfig huggingface_config(const HuggingFaceSpec& spec);

/// Weights are used where they lie when they have the run dtype, and converted once otherwise.
/// E_WEIGHT: a tensor is missing, or belongs to nothing.  E_SHAPE: one has another shape than the
/// config says.  E_NONFINITE: one holds an infinite value or NaN, in the file or in the run dtype.
Network read_huggingface(const HuggingFaceSpec& spec);

}  // namespace kvlab
