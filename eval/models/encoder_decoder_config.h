#pragma once
// T5 and Whisper as numbers: an encoder that reads a source at once, a decoder whose blocks attend
// to their own past and to what the encoder made of the source, and everything in which the two
// differ.

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/model_shape.h"
#include "eval/model.h"
#include "eval/models/network_config.h"

namespace kvlab {

/// One of the two halves.  Its heads together may be wider than the model.
struct StackConfig {
  int num_layers = 0, num_heads = 0, head_dim = 0, mlp_width = 0;
  int64_t projected() const { return int64_t{num_heads} * head_dim; }
};

struct EncoderDecoderConfig {
  enum class Norm : u8 { rms, layer };  // layer: with mean and bias

  std::string family{};  // model_type: "t5", "whisper"
  EncoderInput reads = EncoderInput::token_ids;
  int width = 0;
  StackConfig encoder{}, decoder{};
  int64_t vocab_size = 0;
  int64_t max_positions = 0, max_source_positions = 0;  // of decoder and encoder tokens
  int num_mel_bins = 0;                                 // of features

  Norm norm = Norm::rms;
  double norm_eps = 0;
  bool biased = false;  // all projections but those of keys
  bool gated = false;   // MLP: act(gate x) * up x, else act(up x)
  Activation activation = Activation::relu;
  bool scaled = false;    // logits = <q, k> / sqrt(head_dim), else <q, k>
  double head_scale = 1;  // of what the head reads
  bool tied = true;       // where there is no head of its own, it is the embedding
  /// Relative position bias of self-attention, T5's: buckets of distances, the last for all from
  /// max_distance on.  0: positions are embedded instead.
  int num_buckets = 0, max_distance = 0;

  std::optional<Dtype> dtype{};  // that the config states
  int32_t begin_token = -1;      // the decoder's first
  std::vector<int32_t> end_tokens{};

  bool has_distance_bias() const { return num_buckets > 0; }
  double scale_of(const StackConfig& stack) const {
    return scaled ? 1 / std::sqrt(static_cast<double>(stack.head_dim)) : 1;
  }
};

/// The model types that encoder_decoder_config reads.
std::vector<std::string> encoder_decoder_families();
/// Whether a config names one of them.
bool is_encoder_decoder(const Json& config, std::string_view where);

/// Reads a Hugging Face config.json; an absent key means what it means to transformers.  E_FORMAT:
/// a field is missing, of a wrong type or absurd.  E_UNSUPPORTED: an option that kvlab does not
/// compute, by name.
EncoderDecoderConfig encoder_decoder_config(const Json& config, std::string_view where);

/// Two sites per decoder block: self-attention, then cross-attention over the encoder's tokens.
/// Fingerprint as of decoders.
ModelShape shape_of(const EncoderDecoderConfig& config);
/// The site of a decoder block.
inline int self_site(int block) { return 2 * block; }
inline int cross_site(int block) { return 2 * block + 1; }

/// Canonical JSON of everything the network computes with but its weights.
Json arithmetic_of(const EncoderDecoderConfig& config);

}  // namespace kvlab
