#pragma once
// Models in a Hugging Face directory: config.json, safetensors weights and, if there,
// generation_config.json.  `model_type` says which network it is.

#include <filesystem>
#include <optional>

#include "eval/models/decoder_model.h"
#include "eval/models/encoder_decoder_model.h"

namespace kvlab {

struct HuggingFaceSpec {
  std::filesystem::path directory{};
  std::optional<Dtype> dtype{};  // run dtype; absent: what the config states, else the embedding's
  LongRope longrope = LongRope::for_short;
};

/// Without the weights.
ModelOutline huggingface_outline(const HuggingFaceSpec& spec);
std::unique_ptr<Model> load_huggingface(const HuggingFaceSpec& spec);

/// Of the Llama family.
DecoderConfig huggingface_config(const HuggingFaceSpec& spec);

/// Weights are used where they lie when they have the run dtype, and converted once otherwise.
/// E_WEIGHT: a tensor is missing, or belongs to nothing.  E_SHAPE: one has another shape than the
/// config says.  E_NONFINITE: one holds an infinite value or NaN, in the file or in the run dtype.
Network read_huggingface(const HuggingFaceSpec& spec);

/// The same of encoder-decoder models.
EncoderDecoderConfig huggingface_encoder_decoder_config(const HuggingFaceSpec& spec);
EncoderDecoderNetwork read_huggingface_encoder_decoder(const HuggingFaceSpec& spec);

}  // namespace kvlab
