#pragma once
// Attention of a pass over its own rows, from the definition: no cache, no engine.  What offline
// steps see a network through; slower than the engine, and independent of it.

#include <cstdint>
#include <span>

#include "core/model_shape.h"
#include "core/types.h"

namespace kvlab {

struct DenseAttention {
  const Layer* shape = nullptr;
  std::span<const int32_t> positions{};  // [T], of one sequence
  TensorView queries{};                  // [T, H, d] not rotated
  TensorView keys{};                     // [T, Hkv, d] rotated
  TensorView values{};                   // [T, Hkv, dv]
  TensorView out{};                      // [T, H, dv] written
};

/// Row t reads the rows s with positions[t] - window_left <= positions[s] <= positions[t]; logits,
/// soft-cap, softmax and the weighted sum in float32.  E_UNSUPPORTED: learned sinks, ALiBi, biases
/// by distance.
void dense_attention(const DenseAttention& call);

}  // namespace kvlab
