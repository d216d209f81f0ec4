#pragma once
// How an offline step sees a network: shape, weights, activations, a loss.  Abstract, because
// methods may not include eval; eval's models and the Hugging Face adapter implement it.

#include <functional>
#include <span>
#include <string_view>

#include "core/chunk.h"
#include "core/model_shape.h"
#include "core/types.h"

namespace at {
class Tensor;
}

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

/// What a layer's attention is given where gradients flow: LibTorch's tensors, of whole sequences
/// from position 0.
struct AttentionSite {
  int layer = 0;
  const at::Tensor& hidden;         // [B, T, D] normed input of the projections
  const at::Tensor& queries;        // [B, T, H, d] not rotated
  const at::Tensor& keys_pre_rope;  // [B, T, Hkv, d]
  const at::Tensor& values;         // [B, T, Hkv, dv]
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
  /// Mean next-token loss in nats, in float32, of `tokens` as one sequence, with `attention`, which
  /// returns [B, T, H, dv], in place of every layer's (empty: the model's own).  What it returns
  /// may depend on leaves that require gradients: d loss is added to theirs.  The weights are not
  /// among them.  E_SHAPE: fewer than two tokens.  E_UNSUPPORTED where the model cannot
  /// differentiate.
  using Attention = std::function<at::Tensor(const AttentionSite&)>;
  virtual double loss(std::span<const int32_t> tokens, const Attention& attention) = 0;
};

}  // namespace kvlab
