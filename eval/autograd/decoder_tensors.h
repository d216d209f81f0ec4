#pragma once
// The weights of a decoder as LibTorch tensors that autograd follows, under the names of a Hugging
// Face file.

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "eval/models/decoder.h"
#include "eval/models/decoder_config.h"

namespace kvlab {

struct LinearTensors {
  at::Tensor weight{}, bias{};  // [out, in], [out] or undefined
};

/// DecoderBlock's fields.
struct BlockTensors {
  at::Tensor attention_norm{}, mlp_norm{};
  at::Tensor attention_norm_after{}, mlp_norm_after{};
  at::Tensor query_norm{}, key_norm{};
  LinearTensors query{}, key{}, value{}, output{};
  LinearTensors gate{}, up{}, down{};
};

/// DecoderWeights' fields; one dtype and device.
struct DecoderTensors {
  at::Tensor embedding{};
  at::Tensor head{};  // undefined when tied
  at::Tensor final_norm{};
  std::vector<BlockTensors> blocks{};
};

/// Every weight that a network with this config has, in a fixed order: its name in a Hugging Face
/// file ("model.layers.0.self_attn.q_proj.weight"; projections apart also where the family's files
/// hold them fused), its shape, and its place in `tensors`, which is given its blocks.
void for_each_weight(
    const DecoderConfig& config, DecoderTensors& tensors,
    const std::function<void(const std::string& name, const std::vector<int64_t>& sizes,
                             at::Tensor&)>& visit);

/// The same memory under LibTorch's names; valid while `weights` are.
DecoderTensors tensors_of(const DecoderConfig& config, const DecoderWeights& weights);

}  // namespace kvlab
