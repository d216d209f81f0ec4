#pragma once
// A small random T5, for tests of what goes on around it.

#include "eval/models/encoder_decoder_model.h"
#include "tests/eval/models/values.h"

namespace kvlab::test {

/// What the first files of T5 hold, and nothing else: two blocks of width 32, 3 heads of 16.
inline Json small_t5(const Json& more = Json::object()) {
  Json config{{"model_type", "t5"},
              {"d_model", 32},
              {"d_kv", 16},
              {"d_ff", 40},
              {"num_layers", 2},
              {"num_heads", 3},
              {"vocab_size", 41},
              {"eos_token_id", 1},
              {"relative_attention_num_buckets", 8},
              {"relative_attention_max_distance", 20}};
  config.update(more);
  return config;
}

/// Weights uniform in [-1, 1) / 3, norms around 1.
class RandomT5 {
 public:
  explicit RandomT5(const Json& more = Json::object(), uint64_t seed = 1)
      : config_(encoder_decoder_config(small_t5(more), "test")), seed_(seed) {}

  EncoderDecoderNetwork network() {
    EncoderDecoderWeights weights{
        .embedding = tensor({config_.vocab_size, config_.width}),
        .encoder_distances = tensor({config_.num_buckets, config_.encoder.num_heads}),
        .decoder_distances = tensor({config_.num_buckets, config_.decoder.num_heads}),
        .encoder_norm = norm(),
        .decoder_norm = norm()};
    for (int i = 0; i < config_.encoder.num_layers; ++i)
      weights.encoder.push_back({.attention = attention(), .mlp = mlp()});
    for (int i = 0; i < config_.decoder.num_layers; ++i)
      weights.decoder.push_back({.self = attention(), .cross = attention(), .mlp = mlp()});
    return {.config = config_,
            .weights = std::move(weights),
            .fingerprint = "random:" + std::to_string(seed_)};
  }
  std::unique_ptr<Model> model() { return make_encoder_decoder_model(network()); }

 private:
  Tensor tensor(std::initializer_list<int64_t> sizes) {
    return random_tensor("", Dtype::f32, sizes, 1000 * seed_ + ++made_, 1.0 / 3);
  }
  NormWeights norm() {
    Tensor weight = tensor({config_.width});
    for (int64_t i = 0; i < weight.view.numel(); ++i) weight.view.as<float>()[i] += 1;
    return {.weight = std::move(weight)};
  }
  AttentionWeights attention() {
    const int64_t inner = config_.decoder.projected(), width = config_.width;
    return {.norm = norm(),
            .query = {tensor({inner, width}), {}},
            .key = {tensor({inner, width}), {}},
            .value = {tensor({inner, width}), {}},
            .output = {tensor({width, inner}), {}}};
  }
  MlpWeights mlp() {
    const int64_t inside = config_.decoder.mlp_width, width = config_.width;
    return {
        .norm = norm(), .up = {tensor({inside, width}), {}}, .down = {tensor({width, inside}), {}}};
  }

  EncoderDecoderConfig config_;
  uint64_t seed_, made_ = 0;
};

}  // namespace kvlab::test
