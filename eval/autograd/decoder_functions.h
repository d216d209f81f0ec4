#pragma once
// Parts of a decoder as single functions with gradients, on the CPU: what autograd would make of
// the same formulas takes a pass over memory per operator.

#include <ATen/core/Tensor.h>

#include "eval/models/decoder_config.h"

namespace kvlab {

/// Whether this CPU, device and config have what follows; else LibTorch's operators do the same.
bool has_decoder_functions(const DecoderConfig& config, const at::Tensor& weight,
                           at::ScalarType compute);

/// {x + delta, bfloat16 of rms_norm(x + delta)}: x [..., D] float32; delta [..., D] bfloat16, or
/// undefined, when x itself comes back.
std::pair<at::Tensor, at::Tensor> add_norm(const at::Tensor& x, const at::Tensor& delta,
                                           const at::Tensor& weight, const DecoderConfig& config);

/// silu(gate) * up of [..., 2 M], gate first.
at::Tensor gated(const at::Tensor& gate_up);

/// Causal attention with RoPE over projections side by side, [B, T, (H + 2 Hkv) d]; cos, sin
/// [T, d / 2] float32.  [B, T, H d].
at::Tensor fused_attention(const at::Tensor& projections, const at::Tensor& cos,
                           const at::Tensor& sin, const DecoderConfig& config);

/// Sum of losses of bfloat16 logits [R, V]; with `gradient`, the logits become their gradient.
double loss_in_place(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                     bool gradient);

}  // namespace kvlab
