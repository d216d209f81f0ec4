#include "eval/autograd/decoder_autograd.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/torch.h"
#include "eval/autograd/decoder_functions.h"
#include "eval/autograd/head_loss.h"

namespace kvlab {
namespace {

at::Tensor activated(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::silu:
      return at::silu(x);
    case Activation::gelu:
      return at::gelu(x, "none");
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::relu:
      return at::relu(x);
  }
  fail("E_INTERNAL", "an activation that no network has");
}

/// [T, T] true where a query (row) reads a key.
at::Tensor visible(int64_t tokens, int64_t window_left, const at::Device& device) {
  const auto options = at::TensorOptions().device(device).dtype(at::kBool);
  at::Tensor mask = at::empty({tokens, tokens}, options).fill_(true).tril();
  return window_left < 0 ? mask : mask.triu(-window_left);
}

}  // namespace

DecoderAutograd::DecoderAutograd(DecoderConfig config, DecoderTensors weights, Dtype compute)
    : config_(std::move(config)), weights_(std::move(weights)), compute_(scalar_type(compute)) {
  fused_ = has_decoder_functions(config_, weights_.embedding, compute_);
  KVLAB_CHECK(static_cast<int>(weights_.blocks.size()) == config_.num_layers);
  KVLAB_CHECK(compute_ == at::kBFloat16 || compute_ == weights_.embedding.scalar_type());
}

const at::Tensor& DecoderAutograd::head() const {
  return weights_.head.defined() ? weights_.head : weights_.embedding;
}

/// Several projections of one input as one product, their outputs side by side.
at::Tensor DecoderAutograd::linear(const at::Tensor& x, const Projections& side_by_side) const {
  std::vector<at::Tensor> weights, biases;
  for (const LinearTensors* l : side_by_side) {
    weights.push_back(l->weight.to(compute_));
    if (l->bias.defined()) biases.push_back(l->bias.to(compute_));
  }
  const at::Tensor weight = weights.size() == 1 ? weights[0] : at::cat(weights);
  if (biases.empty()) return at::linear(x, weight);
  return at::linear(x, weight, biases.size() == 1 ? biases[0] : at::cat(biases));
}

std::vector<at::Tensor> DecoderAutograd::linears(const at::Tensor& x,
                                                 const Projections& side_by_side) const {
  std::vector<int64_t> widths;
  for (const LinearTensors* l : side_by_side) widths.push_back(l->weight.size(0));
  return linear(x, side_by_side).split_with_sizes(widths, -1);
}

/// In the weights' dtype; what it returns is too.
at::Tensor DecoderAutograd::norm(const at::Tensor& x, const at::Tensor& weight) const {
  const at::Tensor wide = x.to(weight.scalar_type());
  const at::Tensor scale = at::rsqrt(wide.square().mean({-1}, true) + config_.norm_eps);
  return wide * scale * (config_.norm_form == NormForm::one_plus_weight ? weight + 1 : weight);
}

void DecoderAutograd::prepare_rotation(int64_t tokens) const {
  if (cos_.defined() && cos_.size(0) >= tokens) return;
  const Rope& rope = config_.rope;
  const int64_t pairs = rope.rotary_dim / 2;
  at::Tensor angles = at::empty({tokens, pairs}, at::TensorOptions().dtype(at::kDouble));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < pairs; ++c)
      angles.data_ptr<double>()[t * pairs + c] =
          static_cast<double>(t) * rope.inv_freq[static_cast<size_t>(c)];
  const auto options = weights_.embedding.options();
  cos_ = (angles.cos() * rope.attention_factor).to(options);
  sin_ = (angles.sin() * rope.attention_factor).to(options);
}

at::Tensor DecoderAutograd::rotated(const at::Tensor& x) const {
  const Rope& rope = config_.rope;
  const int64_t tokens = x.size(1), turned = rope.rotary_dim, pairs = turned / 2;
  if (!rope || pairs == 0) return x;
  prepare_rotation(tokens);
  const at::Tensor cos = cos_.narrow(0, 0, tokens).unsqueeze(1);
  const at::Tensor sin = sin_.narrow(0, 0, tokens).unsqueeze(1);
  const bool half_split = rope.style == Rope::Style::half_split;
  const at::Tensor part = x.narrow(-1, 0, turned).to(weights_.embedding.scalar_type());
  const at::Tensor in_pairs = half_split ? part.unflatten(-1, {2, pairs}).transpose(-1, -2)
                                         : part.unflatten(-1, {pairs, 2});
  const at::Tensor a = in_pairs.select(-1, 0), b = in_pairs.select(-1, 1);
  const at::Tensor turned_a = a * cos - b * sin, turned_b = b * cos + a * sin;
  at::Tensor out = half_split ? at::cat({turned_a, turned_b}, -1)
                              : at::stack({turned_a, turned_b}, -1).flatten(-2);
  out = out.to(x.scalar_type());
  return turned == x.size(-1) ? out : at::cat({out, x.narrow(-1, turned, x.size(-1) - turned)}, -1);
}

at::Tensor DecoderAutograd::attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                                   const at::Tensor& values) const {
  const at::Tensor q = queries.transpose(1, 2);
  at::Tensor k = keys.transpose(1, 2), v = values.transpose(1, 2);
  const int64_t group = config_.num_heads / config_.num_kv_heads, tokens = q.size(2);
  if (group > 1) {
    k = k.repeat_interleave(group, 1);
    v = v.repeat_interleave(group, 1);
  }
  const int64_t left = config_.window_left[static_cast<size_t>(layer)];
  const bool all = left < 0 || left + 1 >= tokens;
  if (config_.attention_softcap == 0) {
    const std::optional<at::Tensor> mask =
        all ? std::nullopt : std::optional(visible(tokens, left, q.device()));
    return at::scaled_dot_product_attention(q, k, v, mask, 0, all, config_.attention_scale)
        .transpose(1, 2);
  }
  const double cap = config_.attention_softcap;
  at::Tensor logits = q.to(weights_.embedding.scalar_type())
                          .matmul(k.transpose(-1, -2).to(weights_.embedding.scalar_type())) *
                      config_.attention_scale;
  logits = (logits / cap).tanh() * cap;
  logits = logits.masked_fill(visible(tokens, left, q.device()).logical_not(), -INFINITY);
  return logits.softmax(-1).to(v.scalar_type()).matmul(v).transpose(1, 2);
}

at::Tensor DecoderAutograd::attention_output(int layer, const at::Tensor& x,
                                             const Attention& attention) const {
  const BlockTensors& b = weights_.blocks[static_cast<size_t>(layer)];
  const std::vector<at::Tensor> parts = linears(x, {&b.query, &b.key, &b.value});
  const auto heads = [&](const at::Tensor& part) {
    return part.unflatten(-1, {part.size(-1) / config_.head_dim, config_.head_dim});
  };
  at::Tensor queries = heads(parts[0]), keys = heads(parts[1]);
  if (config_.qk_norm) {
    queries = norm(queries, b.query_norm).to(compute_);
    keys = norm(keys, b.key_norm).to(compute_);
  }
  const at::Tensor values = heads(parts[2]);
  const at::Tensor out = attention ? attention({layer, x, queries, keys, values})
                                   : attend(layer, rotated(queries), rotated(keys), values);
  return linear(out.flatten(-2), {&b.output});
}

at::Tensor DecoderAutograd::mlp_output(const BlockTensors& block, const at::Tensor& x) const {
  const std::vector<at::Tensor> parts = linears(x, {&block.gate, &block.up});
  return linear(activated(config_.activation, parts[0]) * parts[1], {&block.down});
}

at::Tensor DecoderAutograd::hidden(const at::Tensor& ids, const Attention& attention) const {
  at::Tensor x = at::embedding(weights_.embedding, ids);
  if (config_.embedding_scale != 1)
    x = x * at::empty({}, x.options()).fill_(config_.embedding_scale);
  if (fused_ && !attention) return fused_hidden(x);
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    const BlockTensors& b = weights_.blocks[static_cast<size_t>(layer)];
    at::Tensor out = attention_output(layer, norm(x, b.attention_norm).to(compute_), attention);
    x = x + (config_.norms_after ? norm(out, b.attention_norm_after) : out);
    out = mlp_output(b, norm(x, b.mlp_norm).to(compute_));
    x = x + (config_.norms_after ? norm(out, b.mlp_norm_after) : out);
  }
  return norm(x, weights_.final_norm);
}

/// hidden() in functions of eval/autograd/decoder_functions.h.
at::Tensor DecoderAutograd::fused_hidden(const at::Tensor& embedded) const {
  const int64_t tokens = embedded.size(1);
  prepare_rotation(tokens);
  const at::Tensor cos = cos_.narrow(0, 0, tokens), sin = sin_.narrow(0, 0, tokens);
  at::Tensor x = embedded, delta, normed;
  for (const BlockTensors& b : weights_.blocks) {
    std::tie(x, normed) = add_norm(x, delta, b.attention_norm, config_);
    const at::Tensor projections = linear(normed, {&b.query, &b.key, &b.value});
    delta = linear(fused_attention(projections, cos, sin, config_), {&b.output});
    std::tie(x, normed) = add_norm(x, delta, b.mlp_norm, config_);
    delta = linear(gated(linear(normed, {&b.gate, &b.up})), {&b.down});
  }
  return add_norm(x, delta, weights_.final_norm, config_).second;
}

at::Tensor DecoderAutograd::logits(const at::Tensor& hidden) const {
  const at::Tensor raw =
      at::linear(hidden.to(compute_), head().to(compute_)).to(weights_.embedding.scalar_type());
  const double cap = config_.logits_softcap;
  return cap > 0 ? (raw / cap).tanh() * cap : raw;
}

at::Tensor DecoderAutograd::loss(const at::Tensor& hidden, const at::Tensor& targets,
                                 const at::Tensor& weights) const {
  return head_loss({.hidden = hidden.to(compute_),
                    .head = head().to(compute_),
                    .targets = targets,
                    .weights = weights,
                    .softcap = config_.logits_softcap,
                    .rows_at_once = kLossRows});
}

}  // namespace kvlab
