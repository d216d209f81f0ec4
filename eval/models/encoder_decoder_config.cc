#include "eval/models/encoder_decoder_config.h"

#include <array>
#include <cmath>

#include "core/error.h"
#include "eval/models/digest.h"

namespace kvlab {
namespace {

constexpr int64_t kNoLimit = 1 << 20;      // of positions that are not embedded
constexpr int64_t kMostBuckets = 1 << 12;  // their tables must stay small
constexpr int64_t kMostDistance = 1 << 16;

int size(const Fields& fields, std::string_view name, int64_t most) {
  return static_cast<int>(fields.integer(name, 1, most));
}

Activation activation_named(const Fields& fields, std::string_view key, std::string_view name,
                            std::string_view whole) {
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  if (name == "silu" || name == "swish") return Activation::silu;
  fail("E_UNSUPPORTED", fields.where(), ": activation `", printable(whole), "` (", key,
       ") is not supported; supported: relu, gelu, gelu_new, gelu_pytorch_tanh, silu");
}

/// "relu", "gated-gelu", ...; the original's gated-gelu is the tanh form.
void read_feed_forward(const Fields& fields, EncoderDecoderConfig& config) {
  const std::string whole = fields.text_or("feed_forward_proj", "relu");
  constexpr std::string_view kGated = "gated-";
  std::string_view name = whole;
  config.gated = name.starts_with(kGated);
  if (config.gated) name.remove_prefix(kGated.size());
  if (whole == "gated-gelu") name = "gelu_new";
  config.activation = activation_named(fields, "feed_forward_proj", name, whole);
}

void read_buckets(const Fields& fields, EncoderDecoderConfig& config) {
  config.num_buckets =
      static_cast<int>(fields.integer_or("relative_attention_num_buckets", 32, 4, kMostBuckets));
  config.max_distance =
      static_cast<int>(fields.integer_or("relative_attention_max_distance", 128, 1, kMostDistance));
  if (config.max_distance <= config.num_buckets / 2)
    fields.refuse("relative_attention_max_distance",
                  "must be above half of `relative_attention_num_buckets` = " +
                      std::to_string(config.num_buckets));
}

void t5(const Fields& fields, EncoderDecoderConfig& config) {
  config.encoder = {.num_layers = size(fields, "num_layers", kMostLayers),
                    .num_heads = size(fields, "num_heads", kMostHeads),
                    .head_dim = size(fields, "d_kv", kMostHeadDim),
                    .mlp_width = size(fields, "d_ff", kMostWidth)};
  config.decoder = config.encoder;
  config.decoder.num_layers = static_cast<int>(
      fields.integer_or("num_decoder_layers", config.encoder.num_layers, 1, kMostLayers));
  config.max_positions = config.max_source_positions = kNoLimit;
  config.norm_eps = fields.number_or("layer_norm_epsilon", 1e-6);
  if (!(config.norm_eps >= 0 && config.norm_eps < 1))
    fields.refuse("layer_norm_epsilon", "must be in [0, 1)");
  read_feed_forward(fields, config);
  read_buckets(fields, config);
  // Files of transformers 5 say it themselves; before, a head of its own meant that nothing is
  // scaled (T5 v1.1).
  config.tied = fields.boolean_or("tie_word_embeddings", true);
  if (fields.boolean_or("scale_decoder_outputs", config.tied))
    config.head_scale = 1 / std::sqrt(static_cast<double>(config.width));
  config.begin_token =
      static_cast<int32_t>(fields.integer_or("pad_token_id", 0, 0, config.vocab_size - 1));
}

StackConfig whisper_stack(const Fields& fields, const std::string& name, int width) {
  StackConfig stack{.num_layers = size(fields, name + "_layers", kMostLayers),
                    .num_heads = size(fields, name + "_attention_heads", kMostHeads),
                    .mlp_width = size(fields, name + "_ffn_dim", kMostWidth)};
  if (width % stack.num_heads != 0)
    fields.refuse(name + "_attention_heads", "must divide `d_model` = " + std::to_string(width));
  stack.head_dim = width / stack.num_heads;
  return stack;
}

void whisper(const Fields& fields, EncoderDecoderConfig& config) {
  config.reads = EncoderInput::features;
  config.norm = EncoderDecoderConfig::Norm::layer;
  config.norm_eps = 1e-5;
  config.biased = true;
  config.encoder = whisper_stack(fields, "encoder", config.width);
  config.decoder = whisper_stack(fields, "decoder", config.width);
  config.num_mel_bins = static_cast<int>(fields.integer_or("num_mel_bins", 80, 1, kMostWidth));
  config.max_source_positions = fields.integer_or("max_source_positions", 1500, 1, kNoLimit);
  config.max_positions = fields.integer_or("max_target_positions", 448, 1, kNoLimit);
  const std::string activation = fields.text_or("activation_function", "gelu");
  config.activation = activation_named(fields, "activation_function", activation, activation);
  config.scaled = true;
  config.tied = fields.boolean_or("tie_word_embeddings", true);
  config.begin_token = 50257 < config.vocab_size ? 50257 : -1;
}

struct EncoderDecoderFamily {
  std::string_view model_type, architecture;
  void (*differ)(const Fields&, EncoderDecoderConfig&);
};
constexpr std::array<EncoderDecoderFamily, 2> kEncoderDecoderFamilies{
    {{"t5", "T5ForConditionalGeneration", t5},
     {"whisper", "WhisperForConditionalGeneration", whisper}}};

void read_tokens(const Fields& fields, EncoderDecoderConfig& config) {
  config.begin_token = static_cast<int32_t>(
      fields.integer_or("decoder_start_token_id", config.begin_token, 0, config.vocab_size - 1));
  config.end_tokens = end_tokens_of(fields);
}

}  // namespace

std::vector<std::string> encoder_decoder_families() {
  std::vector<std::string> names;
  for (const EncoderDecoderFamily& family : kEncoderDecoderFamilies)
    names.emplace_back(family.model_type);
  return names;
}

bool is_encoder_decoder(const Json& json, std::string_view where) {
  return find_family<EncoderDecoderFamily>(Fields(json, std::string(where)),
                                           kEncoderDecoderFamilies) != nullptr;
}

EncoderDecoderConfig encoder_decoder_config(const Json& json, std::string_view where) {
  const Fields fields(json, std::string(where));
  const EncoderDecoderFamily* family =
      find_family<EncoderDecoderFamily>(fields, kEncoderDecoderFamilies);
  if (family == nullptr) refuse_network(fields, encoder_decoder_families());
  refuse_quantised(fields);
  EncoderDecoderConfig config{.family = std::string(family->model_type),
                              .width = size(fields, "d_model", kMostWidth),
                              .vocab_size = fields.integer("vocab_size", 1, kMostTokens)};
  family->differ(fields, config);
  config.dtype = stated_dtype(fields);
  read_tokens(fields, config);
  return config;
}

Json arithmetic_of(const EncoderDecoderConfig& config) {
  const auto stack = [](const StackConfig& s) {
    return Json{s.num_layers, s.num_heads, s.head_dim, s.mlp_width};
  };
  return {{"family", config.family},
          {"width", config.width},
          {"encoder", stack(config.encoder)},
          {"decoder", stack(config.decoder)},
          {"vocab_size", config.vocab_size},
          {"positions", {config.max_positions, config.max_source_positions}},
          {"mel_bins", config.num_mel_bins},
          {"norm", {static_cast<int>(config.norm), config.norm_eps}},
          {"bias", config.biased},
          {"mlp", {config.gated, static_cast<int>(config.activation)}},
          {"scale", {config.scaled, config.head_scale}},
          {"distances", {config.num_buckets, config.max_distance}}};
}

ModelShape shape_of(const EncoderDecoderConfig& config) {
  ModelShape shape{.architecture = config.family,
                   .width = config.width,
                   .vocab_size = config.vocab_size,
                   .max_positions = config.max_positions};
  for (int block = 0; block < config.decoder.num_layers; ++block)
    for (const Layer::Kind kind : {Layer::Kind::self, Layer::Kind::cross}) {
      Layer& site = shape.layers.emplace_back(Layer{.kind = kind,
                                                    .block = block,
                                                    .num_heads = config.decoder.num_heads,
                                                    .num_kv_heads = config.decoder.num_heads,
                                                    .head_dim = config.decoder.head_dim,
                                                    .value_dim = config.decoder.head_dim,
                                                    .scale = config.scale_of(config.decoder),
                                                    .value_bias = config.biased});
      if (kind == Layer::Kind::self && config.has_distance_bias())
        site.distance_bias = config.max_distance + 1;
    }
  shape.fingerprint = "config:" + Digest().add(canonical(arithmetic_of(config))).hex();
  check(shape);
  return shape;
}

}  // namespace kvlab
