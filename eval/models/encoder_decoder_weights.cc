// Where transformers keeps the tensors of T5 and Whisper.

#include <string>

#include "eval/models/encoder_decoder_model.h"

namespace kvlab {
namespace {

using Bias = WeightReader::Bias;

/// NAME, or absent where the files have none and `may_lack` says they may.
Tensor read_head(WeightReader& reader, const EncoderDecoderConfig& c, const std::string& name) {
  if (c.tied && !reader.has(name)) return {};
  return reader.read(name, {c.vocab_size, c.width});
}

// ---- T5 ----

class T5Reader {
 public:
  T5Reader(WeightReader& reader, const EncoderDecoderConfig& config)
      : reader_(reader), config_(config) {}

  EncoderDecoderWeights read() {
    EncoderDecoderWeights weights{.embedding =
                                      reader_.read("shared.weight", {config_.vocab_size, width()})};
    weights.head = read_head(reader_, config_, "lm_head.weight");
    weights.encoder_distances = distances("encoder", config_.encoder);
    weights.decoder_distances = distances("decoder", config_.decoder);
    weights.encoder_norm = norm("encoder.final_layer_norm");
    weights.decoder_norm = norm("decoder.final_layer_norm");
    for (int i = 0; i < config_.encoder.num_layers; ++i) {
      const std::string block = "encoder.block." + std::to_string(i) + ".layer.";
      weights.encoder.push_back(
          {.attention = attention(block + "0.", "SelfAttention.", config_.encoder),
           .mlp = mlp(block + "1.", config_.encoder)});
    }
    for (int i = 0; i < config_.decoder.num_layers; ++i) {
      const std::string block = "decoder.block." + std::to_string(i) + ".layer.";
      weights.decoder.push_back(
          {.self = attention(block + "0.", "SelfAttention.", config_.decoder),
           .cross = attention(block + "1.", "EncDecAttention.", config_.decoder),
           .mlp = mlp(block + "2.", config_.decoder)});
    }
    reader_.finish(config_.family, [&](std::string_view name) { return is_spare(name); });
    return weights;
  }

 private:
  int64_t width() const { return config_.width; }

  NormWeights norm(const std::string& name) {
    return {.weight = reader_.read(name + ".weight", {width()})};
  }

  Tensor distances(const std::string& stack, const StackConfig& sizes) {
    return reader_.read(stack + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                        {config_.num_buckets, sizes.num_heads});
  }

  AttentionWeights attention(const std::string& layer, const std::string& kind,
                             const StackConfig& sizes) {
    const auto projection = [&](const char* name, int64_t out, int64_t in) {
      return reader_.linear(layer + kind + name, out, in);
    };
    const int64_t inner = sizes.projected();
    return {.norm = norm(layer + "layer_norm"),
            .query = projection("q", inner, width()),
            .key = projection("k", inner, width()),
            .value = projection("v", inner, width()),
            .output = projection("o", width(), inner)};
  }

  MlpWeights mlp(const std::string& layer, const StackConfig& sizes) {
    const std::string dense = layer + "DenseReluDense.";
    MlpWeights weights{.norm = norm(layer + "layer_norm")};
    if (config_.gated) weights.gate = reader_.linear(dense + "wi_0", sizes.mlp_width, width());
    weights.up = reader_.linear(dense + (config_.gated ? "wi_1" : "wi"), sizes.mlp_width, width());
    // Its sums overflow float16.
    const Dtype wide = reader_.dtype() == Dtype::f16 ? Dtype::f32 : reader_.dtype();
    weights.down.weight = reader_.read(dense + "wo.weight", {width(), sizes.mlp_width}, wide);
    return weights;
  }

  /// Copies of the embedding, and a table nobody reads that the first checkpoints carry.
  bool is_spare(std::string_view name) const {
    if (name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
      return true;
    if (name != "encoder.embed_tokens.weight" && name != "decoder.embed_tokens.weight")
      return false;
    reader_.must_repeat(name, "shared.weight", "encoder and decoder share one embedding");
    return true;
  }

  WeightReader& reader_;
  const EncoderDecoderConfig& config_;
};

// ---- Whisper ----

class WhisperReader {
 public:
  WhisperReader(WeightReader& reader, const EncoderDecoderConfig& config)
      : reader_(reader), config_(config) {}

  EncoderDecoderWeights read() {
    EncoderDecoderWeights weights{
        .embedding =
            reader_.read("model.decoder.embed_tokens.weight", {config_.vocab_size, width()}),
        .head = read_head(reader_, config_, "proj_out.weight"),
        .encoder_positions = reader_.read("model.encoder.embed_positions.weight",
                                          {config_.max_source_positions, width()}),
        .decoder_positions =
            reader_.read("model.decoder.embed_positions.weight", {config_.max_positions, width()}),
        .conv1 = convolution("model.encoder.conv1", config_.num_mel_bins),
        .conv2 = convolution("model.encoder.conv2", width()),
        .encoder_norm = norm("model.encoder.layer_norm"),
        .decoder_norm = norm("model.decoder.layer_norm")};
    for (int i = 0; i < config_.encoder.num_layers; ++i) {
      const std::string layer = "model.encoder.layers." + std::to_string(i) + ".";
      weights.encoder.push_back({.attention = attention(layer + "self_attn", config_.encoder),
                                 .mlp = mlp(layer, config_.encoder)});
    }
    for (int i = 0; i < config_.decoder.num_layers; ++i) {
      const std::string layer = "model.decoder.layers." + std::to_string(i) + ".";
      weights.decoder.push_back({.self = attention(layer + "self_attn", config_.decoder),
                                 .cross = attention(layer + "encoder_attn", config_.decoder),
                                 .mlp = mlp(layer, config_.decoder)});
    }
    reader_.finish(config_.family, [](std::string_view) { return false; });
    return weights;
  }

 private:
  int64_t width() const { return config_.width; }

  NormWeights norm(const std::string& name) {
    return {.weight = reader_.read(name + ".weight", {width()}),
            .bias = reader_.read(name + ".bias", {width()})};
  }

  Linear convolution(const std::string& name, int64_t in) {
    return {.weight = reader_.read(name + ".weight", {width(), in, 3}),
            .bias = reader_.read(name + ".bias", {width()})};
  }

  AttentionWeights attention(const std::string& name, const StackConfig& sizes) {
    const int64_t inner = sizes.projected();
    return {.norm = norm(name + "_layer_norm"),
            .query = reader_.linear(name + ".q_proj", inner, width(), Bias::present),
            .key = reader_.linear(name + ".k_proj", inner, width()),
            .value = reader_.linear(name + ".v_proj", inner, width(), Bias::present),
            .output = reader_.linear(name + ".out_proj", width(), inner, Bias::present)};
  }

  MlpWeights mlp(const std::string& layer, const StackConfig& sizes) {
    return {.norm = norm(layer + "final_layer_norm"),
            .up = reader_.linear(layer + "fc1", sizes.mlp_width, width(), Bias::present),
            .down = reader_.linear(layer + "fc2", width(), sizes.mlp_width, Bias::present)};
  }

  WeightReader& reader_;
  const EncoderDecoderConfig& config_;
};

}  // namespace

EncoderDecoderWeights read_encoder_decoder_weights(WeightReader& reader,
                                                   const EncoderDecoderConfig& config) {
  return config.reads == EncoderInput::features ? WhisperReader(reader, config).read()
                                                : T5Reader(reader, config).read();
}

std::string embedding_name(const EncoderDecoderConfig& config) {
  return config.reads == EncoderInput::features ? "model.decoder.embed_tokens.weight"
                                                : "shared.weight";
}

}  // namespace kvlab
