#include "eval/autograd/decoder_tensors.h"

#include "core/torch.h"

namespace kvlab {
namespace {

using Visit = std::function<void(const std::string&, const std::vector<int64_t>&, at::Tensor&)>;

void visit_linear(const std::string& name, int64_t out, int64_t in, bool bias,
                  LinearTensors& linear, const Visit& visit) {
  visit(name + ".weight", {out, in}, linear.weight);
  if (bias) visit(name + ".bias", {out}, linear.bias);
}

void visit_norms(const DecoderConfig& c, const std::string& block, BlockTensors& b,
                 const Visit& visit) {
  visit(block + "input_layernorm.weight", {c.width}, b.attention_norm);
  if (c.norms_after) {
    visit(block + "post_attention_layernorm.weight", {c.width}, b.attention_norm_after);
    visit(block + "pre_feedforward_layernorm.weight", {c.width}, b.mlp_norm);
    visit(block + "post_feedforward_layernorm.weight", {c.width}, b.mlp_norm_after);
  } else {
    visit(block + "post_attention_layernorm.weight", {c.width}, b.mlp_norm);
  }
  if (c.qk_norm) {
    visit(block + "self_attn.q_norm.weight", {c.head_dim}, b.query_norm);
    visit(block + "self_attn.k_norm.weight", {c.head_dim}, b.key_norm);
  }
}

void visit_block(const DecoderConfig& c, const std::string& block, BlockTensors& b,
                 const Visit& visit) {
  const int64_t q = int64_t{c.num_heads} * c.head_dim, kv = int64_t{c.num_kv_heads} * c.head_dim;
  const std::string attention = block + "self_attn.", mlp = block + "mlp.";
  visit_norms(c, block, b, visit);
  visit_linear(attention + "q_proj", q, c.width, c.qkv_bias, b.query, visit);
  visit_linear(attention + "k_proj", kv, c.width, c.qkv_bias, b.key, visit);
  visit_linear(attention + "v_proj", kv, c.width, c.qkv_bias, b.value, visit);
  visit_linear(attention + "o_proj", c.width, q, c.output_bias, b.output, visit);
  visit_linear(mlp + "gate_proj", c.mlp_width, c.width, c.mlp_bias, b.gate, visit);
  visit_linear(mlp + "up_proj", c.mlp_width, c.width, c.mlp_bias, b.up, visit);
  visit_linear(mlp + "down_proj", c.width, c.mlp_width, c.mlp_bias, b.down, visit);
}

LinearTensors linear_of(const Linear& linear) {
  LinearTensors tensors{.weight = to_torch(linear.weight.view)};
  if (linear.bias.view) tensors.bias = to_torch(linear.bias.view);
  return tensors;
}

at::Tensor tensor_or_none(const Tensor& tensor) {
  return tensor.view ? to_torch(tensor.view) : at::Tensor();
}

}  // namespace

void for_each_weight(const DecoderConfig& config, DecoderTensors& tensors, const Visit& visit) {
  tensors.blocks.resize(static_cast<size_t>(config.num_layers));
  visit("model.embed_tokens.weight", {config.vocab_size, config.width}, tensors.embedding);
  for (size_t i = 0; i < tensors.blocks.size(); ++i)
    visit_block(config, "model.layers." + std::to_string(i) + ".", tensors.blocks[i], visit);
  visit("model.norm.weight", {config.width}, tensors.final_norm);
  if (!config.tied) visit("lm_head.weight", {config.vocab_size, config.width}, tensors.head);
}

DecoderTensors tensors_of(const DecoderConfig& config, const DecoderWeights& weights) {
  DecoderTensors tensors{.embedding = to_torch(weights.embedding.view),
                         .head = config.tied ? at::Tensor() : tensor_or_none(weights.head),
                         .final_norm = to_torch(weights.final_norm.view)};
  for (const DecoderBlock& b : weights.blocks)
    tensors.blocks.push_back({.attention_norm = to_torch(b.attention_norm.view),
                              .mlp_norm = to_torch(b.mlp_norm.view),
                              .attention_norm_after = tensor_or_none(b.attention_norm_after),
                              .mlp_norm_after = tensor_or_none(b.mlp_norm_after),
                              .query_norm = tensor_or_none(b.query_norm),
                              .key_norm = tensor_or_none(b.key_norm),
                              .query = linear_of(b.query),
                              .key = linear_of(b.key),
                              .value = linear_of(b.value),
                              .output = linear_of(b.output),
                              .gate = linear_of(b.gate),
                              .up = linear_of(b.up),
                              .down = linear_of(b.down)});
  return tensors;
}

}  // namespace kvlab
