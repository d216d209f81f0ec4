#include "eval/models/decoder_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "eval/models/digest.h"
#include "eval/models/fields.h"

namespace kvlab {
namespace {

// What a key means: whether a layer sees everything or a window is one int64 per layer.
int64_t left_of(int64_t window) { return window - 1; }  // W tokens include the query's own

/// sliding_window, where null differs from absent: null is "none", absent the class's default.
std::optional<int64_t> sliding_window(const Fields& fields, std::optional<int64_t> when_absent) {
  if (!fields.json().contains("sliding_window")) return when_absent;
  if (!fields.has("sliding_window")) return std::nullopt;
  return fields.integer("sliding_window", 1, kMostTokens);
}

void window_everywhere(DecoderConfig& config, std::optional<int64_t> window) {
  if (window) std::ranges::fill(config.window_left, left_of(*window));
}

/// `layer_types` says which layers slide; where it is absent `slides(layer)` does.
template <class Slides>
void window_by_layer(const Fields& fields, DecoderConfig& config, std::optional<int64_t> window,
                     Slides slides) {
  std::vector<std::string> types;
  if (fields.has("layer_types")) {
    types = fields.texts("layer_types");
    KVLAB_REQUIRE(static_cast<int>(types.size()) == config.num_layers, "E_FORMAT", fields.where(),
                  ": `layer_types` names ", types.size(), " layers, but `num_hidden_layers` is ",
                  config.num_layers);
  } else {
    for (int i = 0; i < config.num_layers; ++i)
      types.emplace_back(slides(i) ? "sliding_attention" : "full_attention");
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] == "full_attention") continue;
    KVLAB_REQUIRE(types[i] == "sliding_attention", "E_UNSUPPORTED", fields.where(),
                  ": layer type `", printable(types[i]), "` of layer ", i,
                  " is not supported; supported: full_attention, sliding_attention");
    KVLAB_REQUIRE(window, "E_FORMAT", fields.where(), ": layer ", i,
                  " slides, but `sliding_window` is null");
    config.window_left[i] = left_of(*window);
  }
}

void all_biases(const Fields& fields, DecoderConfig& config) {
  config.qkv_bias = config.output_bias = fields.boolean_or("attention_bias", false);
}

void no_layer_types(const Fields& fields) {
  KVLAB_REQUIRE(!fields.has("layer_types"), "E_UNSUPPORTED", fields.where(),
                ": `layer_types` is no option of this architecture; its layers are all alike");
}

void llama(const Fields& fields, DecoderConfig& config) {
  no_layer_types(fields);
  all_biases(fields, config);
  config.mlp_bias = fields.boolean_or("mlp_bias", false);
}

void mistral(const Fields& fields, DecoderConfig& config) {
  no_layer_types(fields);
  window_everywhere(config, sliding_window(fields, 4096));
}

/// Windows of both Qwens: none unless `use_sliding_window`, and then from `max_window_layers` on.
void qwen_windows(const Fields& fields, DecoderConfig& config) {
  const bool used = fields.boolean_or("use_sliding_window", false);
  const std::optional<int64_t> window = used ? sliding_window(fields, 4096) : std::nullopt;
  const int64_t first = fields.integer_or("max_window_layers", 28, 0, kMostLayers);
  window_by_layer(fields, config, window, [&](int layer) { return window && layer >= first; });
}

void qwen2(const Fields& fields, DecoderConfig& config) {
  config.qkv_bias = true;
  qwen_windows(fields, config);
}

void qwen3(const Fields& fields, DecoderConfig& config) {
  config.qk_norm = true;
  all_biases(fields, config);
  qwen_windows(fields, config);
}

void phi3(const Fields& fields, DecoderConfig& config) {
  no_layer_types(fields);
  config.fused = true;
  window_everywhere(config, sliding_window(fields, std::nullopt));
}

void gemma2(const Fields& fields, DecoderConfig& config) {
  KVLAB_REQUIRE(!fields.boolean_or("use_bidirectional_attention", false), "E_UNSUPPORTED",
                fields.where(), ": `use_bidirectional_attention` is true; kvlab attends causally");
  all_biases(fields, config);
  config.norm_form = NormForm::one_plus_weight;
  config.norms_after = true;
  config.embedding_scale = std::sqrt(static_cast<double>(config.width));
  const double scalar = fields.number_or("query_pre_attn_scalar", 256);
  if (!(scalar > 0)) fields.refuse("query_pre_attn_scalar", "must be above 0");
  config.attention_scale = 1 / std::sqrt(scalar);
  const auto cap = [&fields](std::string_view name, double when_absent) {
    if (!fields.json().contains(name)) return when_absent;
    const double value = fields.number_or(name, 0);
    if (value < 0) fields.refuse(name, "must be null or above 0");
    return value;
  };
  config.attention_softcap = cap("attn_logit_softcapping", 50);
  config.logits_softcap = cap("final_logit_softcapping", 30);
  window_by_layer(fields, config, sliding_window(fields, 4096),
                  [](int layer) { return layer % 2 == 0; });
}

/// A member of the family, with what transformers takes an absent key to mean.
struct Family {
  std::string_view model_type, architecture;
  void (*differ)(const Fields&, DecoderConfig&);
  std::string_view activation_key = "hidden_act", activation = "silu";
  int head_dim = 0;  // 0: width / heads
  bool tied = false, partial_rotary = false;
};
constexpr std::array<Family, 6> kFamilies{{
    {.model_type = "llama", .architecture = "LlamaForCausalLM", .differ = llama},
    {.model_type = "mistral", .architecture = "MistralForCausalLM", .differ = mistral},
    {.model_type = "qwen2", .architecture = "Qwen2ForCausalLM", .differ = qwen2},
    {.model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .differ = qwen3, .head_dim = 128},
    {.model_type = "phi3",
     .architecture = "Phi3ForCausalLM",
     .differ = phi3,
     .partial_rotary = true},
    {.model_type = "gemma2",
     .architecture = "Gemma2ForCausalLM",
     .differ = gemma2,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .head_dim = 256,
     .tied = true},
}};

const Family& family_of(const Fields& fields) {
  const Family* family = find_family<Family>(fields, kFamilies);
  if (family == nullptr) refuse_network(fields, decoder_families());
  return *family;
}

Activation activation_of(const Fields& fields, const Family& family) {
  const std::string name = fields.text_or(family.activation_key, family.activation);
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  fail("E_UNSUPPORTED", fields.where(), ": activation `", printable(name), "` (",
       family.activation_key, ") is not supported; supported: silu, gelu, gelu_pytorch_tanh");
}

void read_sizes(const Fields& fields, const Family& family, DecoderConfig& config) {
  const auto size = [&](std::string_view name, int64_t most) {
    return static_cast<int>(fields.integer(name, 1, most));
  };
  config.width = size("hidden_size", kMostWidth);
  config.mlp_width = size("intermediate_size", kMostWidth);
  config.num_layers = size("num_hidden_layers", kMostLayers);
  config.num_heads = size("num_attention_heads", kMostHeads);
  config.num_kv_heads =
      static_cast<int>(fields.integer_or("num_key_value_heads", config.num_heads, 1, kMostHeads));
  if (config.num_heads % config.num_kv_heads != 0)
    fields.refuse("num_key_value_heads",
                  "must divide `num_attention_heads` = " + std::to_string(config.num_heads));
  config.head_dim = static_cast<int>(fields.integer_or(
      "head_dim", family.head_dim != 0 ? family.head_dim : config.width / config.num_heads, 1,
      kMostHeadDim));
  if (!fields.has("head_dim") && family.head_dim == 0 && config.width % config.num_heads != 0)
    fields.refuse("num_attention_heads",
                  "must divide `hidden_size` = " + std::to_string(config.width) +
                      " where there is no `head_dim`");
  if (config.head_dim < 2) fields.refuse("head_dim", "must be at least 2");
  config.vocab_size = fields.integer("vocab_size", 1, kMostTokens);
  config.max_positions = fields.integer("max_position_embeddings", 1, kMostTokens);
}

void read_tokens(const Fields& fields, DecoderConfig& config) {
  const std::vector<int64_t> begin = fields.integers_or_one("bos_token_id", 0, kMostTokens - 1);
  if (!begin.empty() && begin.front() < config.vocab_size)
    config.begin_token = static_cast<int32_t>(begin.front());
  config.end_tokens = end_tokens_of(fields);
}

}  // namespace

std::vector<std::string> decoder_families() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.emplace_back(family.model_type);
  return names;
}

bool is_decoder(const Json& json, std::string_view where) {
  return find_family<Family>(Fields(json, std::string(where)), kFamilies) != nullptr;
}

DecoderConfig decoder_config(const Json& json, std::string_view where, LongRope longrope) {
  const Fields fields(json, std::string(where));
  const Family& family = family_of(fields);
  refuse_quantised(fields);
  DecoderConfig config{.family = std::string(family.model_type)};
  read_sizes(fields, family, config);
  config.norm_eps = fields.number("rms_norm_eps");
  if (!(config.norm_eps >= 0 && config.norm_eps < 1))
    fields.refuse("rms_norm_eps", "must be in [0, 1)");
  config.activation = activation_of(fields, family);
  config.tied = fields.boolean_or("tie_word_embeddings", family.tied);
  config.attention_scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  config.window_left.assign(static_cast<size_t>(config.num_layers), -1);
  family.differ(fields, config);
  const RopeSetting rope = rope_setting(fields, {.head_dim = config.head_dim,
                                                 .max_positions = config.max_positions,
                                                 .partial = family.partial_rotary,
                                                 .yarn_is_longrope = family.model_type == "phi3",
                                                 .longrope = longrope});
  config.rope = rope.rope;
  config.rope_positions = rope.positions;
  if (rope.positions > 0) config.max_positions = std::min(config.max_positions, rope.positions);
  config.dtype = stated_dtype(fields);
  read_tokens(fields, config);
  return config;
}

Json arithmetic_of(const DecoderConfig& config) {
  return {{"family", config.family},
          {"width", config.width},
          {"mlp_width", config.mlp_width},
          {"layers", config.num_layers},
          {"heads", config.num_heads},
          {"kv_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"norm", {config.norm_form == NormForm::weight, config.norm_eps, config.norms_after}},
          {"qk_norm", config.qk_norm},
          {"bias", {config.qkv_bias, config.output_bias, config.mlp_bias}},
          {"tied", config.tied},
          {"activation", static_cast<int>(config.activation)},
          {"embedding_scale", config.embedding_scale},
          {"attention", {config.attention_scale, config.attention_softcap}},
          {"logits_softcap", config.logits_softcap},
          {"window_left", config.window_left},
          {"rope", {config.rope.rotary_dim, config.rope.attention_factor, config.rope.inv_freq}}};
}

ModelShape shape_of(const DecoderConfig& config) {
  ModelShape shape{.architecture = config.family,
                   .width = config.width,
                   .vocab_size = config.vocab_size,
                   .max_positions = config.max_positions};
  for (int block = 0; block < config.num_layers; ++block)
    shape.layers.push_back({.block = block,
                            .num_heads = config.num_heads,
                            .num_kv_heads = config.num_kv_heads,
                            .head_dim = config.head_dim,
                            .value_dim = config.head_dim,
                            .scale = config.attention_scale,
                            .softcap = config.attention_softcap,
                            .window_left = config.window_left[static_cast<size_t>(block)],
                            .rope = config.rope,
                            .key_bias = config.qkv_bias,
                            .value_bias = config.qkv_bias,
                            .qk_norm = config.qk_norm ? Layer::Norm::per_head : Layer::Norm::none});
  shape.fingerprint = "config:" + Digest().add(canonical(arithmetic_of(config))).hex();
  check(shape);
  return shape;
}

}  // namespace kvlab
