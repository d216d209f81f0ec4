#pragma once
// What every network computes with, on LibTorch's tensors: products, activations, logits.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "eval/model.h"
#include "eval/models/linear.h"
#include "eval/models/network_config.h"

namespace kvlab {

/// x weight^T + bias of rows x [rows, in].
at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias = std::nullopt);

/// LibTorch's names for a Linear's tensors, made once; shares their memory.
struct TorchLinear {
  at::Tensor weight{};
  std::optional<at::Tensor> bias{};

  explicit TorchLinear(const Linear& linear);
  at::Tensor operator()(const at::Tensor& x) const { return multiply(x, weight, bias); }
};

/// In place.
void activate(Activation activation, at::Tensor& x);

/// Shares the memory of `ids`.
at::Tensor ids_tensor(std::span<const int32_t> ids);

/// change(part) of at most so many rows at a time that an MLP's inside, several times as wide,
/// stays small.
void in_blocks_of_rows(const at::Tensor& rows, const std::function<void(at::Tensor& part)>& change);

/// Logits of `hidden` [n, D] in blocks of kLogitsRows: logits_of(part) in the run dtype, handed
/// over as float32.  Rounded to the run dtype first: the logits that published numbers come from.
void give_logits(const at::Tensor& hidden,
                 const std::function<at::Tensor(const at::Tensor& part)>& logits_of,
                 const TakeLogits& take);

}  // namespace kvlab
