#pragma once
// The forward pass of the Llama family once more, with LibTorch's operators and its gradients:
// Decoder computes in place and without a graph, this one is what training and Fisher scores run.

#include <ATen/core/Tensor.h>

#include <functional>

#include "core/model_access.h"
#include "eval/autograd/decoder_tensors.h"
#include "eval/models/decoder_config.h"

namespace kvlab {

class DecoderAutograd {
 public:
  /// weights: leaves of one dtype.  `compute`: dtype of matrix products and attention, the weights'
  /// own or bfloat16; the residual stream, norms, softmax and loss stay in the weights' dtype.
  DecoderAutograd(DecoderConfig config, DecoderTensors weights, Dtype compute);

  const DecoderConfig& config() const { return config_; }
  const DecoderTensors& weights() const { return weights_; }

  /// Takes the place of every layer's attention (empty: the model's own); returns [B, T, H, d].
  using Attention = ModelAccess::Attention;

  /// ids [B, T] int64.  What the head reads, [B, T, D], after the last norm.
  at::Tensor hidden(const at::Tensor& ids, const Attention& attention = {}) const;
  /// Of any rows [..., D]; [..., V] in the weights' dtype, soft-cap included.
  at::Tensor logits(const at::Tensor& hidden) const;
  /// sum of weights[r] * (-ln p(targets[r])) over rows [R, D]; targets [R] int64, weights [R].  The
  /// logits of at most kLossRows rows exist at a time, gradients included.
  at::Tensor loss(const at::Tensor& hidden, const at::Tensor& targets,
                  const at::Tensor& weights) const;
  static constexpr int64_t kLossRows = 1024;

  /// x [B, T, heads, d] turned to positions 0..T-1.
  at::Tensor rotated(const at::Tensor& x) const;
  /// The model's own attention over rotated queries and keys; [B, T, H, d].
  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) const;

 private:
  using Projections = std::initializer_list<const LinearTensors*>;
  at::Tensor linear(const at::Tensor& x, const Projections& side_by_side) const;
  std::vector<at::Tensor> linears(const at::Tensor& x, const Projections& side_by_side) const;
  at::Tensor fused_hidden(const at::Tensor& embedded) const;
  void prepare_rotation(int64_t tokens) const;
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor attention_output(int layer, const at::Tensor& x, const Attention& attention) const;
  at::Tensor mlp_output(const BlockTensors& block, const at::Tensor& x) const;
  const at::Tensor& head() const;

  DecoderConfig config_;
  DecoderTensors weights_;
  at::ScalarType compute_;
  bool fused_;
  mutable at::Tensor cos_{}, sin_{};  // [positions so far, pairs]
};

}  // namespace kvlab
