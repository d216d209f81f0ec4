#pragma once
// How an offline step sees a network: shape, weights, activations, a loss.  Abstract, because
// methods may not include eval; eval's models and the Hugging Face adapter implement it.

#include <functional>
#include <span>
#include <string_view>

#include "core/chunk.h"
#include "core/model_shape.h"
#include "core/types.h"

namespace kvlab {

/// What `visit` hands over for one layer of one sequence.
struct Tap {
  int layer = 0;
  SeqId sequence{};
  TensorView hidden{};         // [T, D] normed input of the projections
  TensorView keys_pre_rope{};  // [T, Hkv, d]
  TensorView values{};         // [T, Hkv, dv]
  TensorView queries{};        // [T, H, d] not rotated
};

class ModelAccess {
 public:
  virtual ~ModelAccess() = default;
  virtual const ModelShape& shape() const = 0;
  /// role: "embedding", "head", or per layer "query", "key", "value", "output" and their "_bias".
  /// [out, in] as stored; absent when the model has none.  Valid while the model lives.
  virtual TensorView weight(std::string_view role, int layer) const = 0;
  /// Runs `tokens` as one sequence through the dense model and calls back for every layer.
  virtual void visit(std::span<const int32_t> tokens,
                     const std::function<void(const Tap&)>& tap) const = 0;
  /// Mean next-token loss in nats with `attention` in place of a layer's attention (empty: the
  /// model's own); gradients reach tensors that require them.  E_UNSUPPORTED where the model
  /// cannot differentiate.
  using Attention = std::function<void(const Tap&, TensorView out)>;
  virtual double loss(std::span<const int32_t> tokens, const Attention& attention) = 0;
};

}  // namespace kvlab
