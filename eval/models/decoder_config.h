#pragma once
// The Llama family as numbers: a decoder of blocks (norm, attention, residual, norm, gated MLP,
// residual) and everything in which its members differ.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/model_shape.h"
#include "core/types.h"
#include "eval/models/network_config.h"
#include "eval/models/rope_config.h"

namespace kvlab {

struct DecoderConfig {
  std::string family{};  // model_type: "llama", "gemma2", ...
  int width = 0;         // D
  int mlp_width = 0;
  int num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_positions = 0;

  NormForm norm_form = NormForm::weight;
  double norm_eps = 0;
  bool norms_after = false;  // attention and MLP outputs are normed before they join the residual
  bool qk_norm = false;      // RMS norm of every query and key head
  bool fused = false;        // weights on disk are qkv_proj and gate_up_proj
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool tied = false;  // the head is the embedding
  Activation activation = Activation::silu;

  double embedding_scale = 1;
  double attention_scale = 0;    // logits = scale * <q, k>
  double attention_softcap = 0;  // 0: none
  double logits_softcap = 0;
  std::vector<int64_t> window_left{};  // per layer, -1: all
  Rope rope{};
  int64_t rope_positions = -1;  // RopeSetting::positions

  std::optional<Dtype> dtype{};  // that the config states
  int32_t begin_token = -1;
  std::vector<int32_t> end_tokens{};
};

/// The model types that decoder_config reads.
std::vector<std::string> decoder_families();
/// Whether a config names one of them.
bool is_decoder(const Json& config, std::string_view where);

/// Reads a Hugging Face config.json, of any transformers version; an absent key means what it means
/// there.  `where` names the file in errors.  E_FORMAT: a field is missing, of a wrong type or
/// absurd.  E_UNSUPPORTED: an architecture or an option that kvlab does not compute, by name.
DecoderConfig decoder_config(const Json& config, std::string_view where,
                             LongRope longrope = LongRope::for_short);

/// One self-attention site per block.  The fingerprint is "config:" and a hash of everything the
/// network computes with but its weights.
ModelShape shape_of(const DecoderConfig& config);

/// Canonical JSON of everything the network computes with but its weights.
Json arithmetic_of(const DecoderConfig& config);

}  // namespace kvlab
