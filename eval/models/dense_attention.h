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
  std::span<const int32_t> positions{};  // [T] of the queries, of one sequence
  TensorView queries{};                  // [T, H, d] not rotated
  TensorView keys{};                     // [S, Hkv, d] rotated; of self layers S = T, the same rows
  TensorView values{};                   // [S, Hkv, dv]
  TensorView distance_bias{};            // [H, n] of self layers with distance_bias, float32
  TensorView out{};                      // [T, H, dv] written
};

/// Row t of a self layer reads the rows s with positions[t] - window_left <= positions[s] <=
/// positions[t], of a cross layer all rows; logits, soft-cap, bias by distance, softmax and the
/// weighted sum in float32.  E_UNSUPPORTED: learned sinks, ALiBi.
void dense_attention(const DenseAttention& call);

}  // namespace kvlab
