#pragma once
// Small random members of every family, for tests of the network itself.

#include <ATen/ops/empty.h>

#include "core/torch.h"
#include "eval/autograd/decoder_tensors.h"
#include "eval/random.h"

namespace kvlab::test {

/// A config.json of 3 layers of width 32, 4 heads over 2, vocabulary 41, and `more`.
inline Json small_config(const Json& more) {
  Json config{{"model_type", "llama"},    {"hidden_size", 32},
              {"intermediate_size", 40},  {"num_hidden_layers", 3},
              {"num_attention_heads", 4}, {"num_key_value_heads", 2},
              {"vocab_size", 41},         {"rms_norm_eps", 1e-5},
              {"rope_theta", 100.0},      {"max_position_embeddings", 64}};
  if (!more.is_null()) config.update(more);
  return config;
}

/// Weights uniform in [-1, 1) / 3, norms and biases too: a network that ignores one of them
/// differs.
inline DecoderTensors random_decoder(const DecoderConfig& config, at::ScalarType dtype,
                                     uint64_t seed) {
  DecoderTensors tensors;
  for_each_weight(config, tensors, [&](const std::string& name, const auto& sizes, at::Tensor& w) {
    at::Tensor values = at::empty(sizes, at::kDouble);
    SplitMix64 random = random_stream(seed, name, 0);
    for (int64_t i = 0; i < values.numel(); ++i)
      values.template data_ptr<double>()[i] =
          static_cast<float>((2 * random.u01() - 1) / 3 + (name.ends_with("norm.weight") ? 1 : 0));
    w = values.to(dtype);
  });
  return tensors;
}

inline DecoderTensors converted(const DecoderConfig& config, DecoderTensors tensors,
                                at::ScalarType dtype) {
  for_each_weight(config, tensors,
                  [&](const std::string&, const auto&, at::Tensor& w) { w = w.to(dtype).clone(); });
  return tensors;
}

/// The same memory for a Decoder.
inline DecoderWeights weights_of(const DecoderTensors& t) {
  const auto one = [](const at::Tensor& tensor) {
    return tensor.defined() ? hold("", tensor) : Tensor{};
  };
  const auto linear = [&](const LinearTensors& l) { return Linear{one(l.weight), one(l.bias)}; };
  DecoderWeights weights{one(t.embedding), one(t.head), one(t.final_norm), {}};
  for (const BlockTensors& b : t.blocks)
    weights.blocks.push_back({one(b.attention_norm), one(b.mlp_norm), one(b.attention_norm_after),
                              one(b.mlp_norm_after), one(b.query_norm), one(b.key_norm),
                              linear(b.query), linear(b.key), linear(b.value), linear(b.output),
                              linear(b.gate), linear(b.up), linear(b.down)});
  return weights;
}

}  // namespace kvlab::test
