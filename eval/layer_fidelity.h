#pragma once
// Comparisons of one layer of two caches that saw the same tokens, the first of them dense; what
// the numbers mean: LayerFidelity.

#include <span>

#include "core/cache.h"
#include "eval/fidelity.h"

namespace kvlab {

/// Outputs of one query, float32 [H * dv]; H is head_error.size().
void compare_outputs(std::span<const float> dense, std::span<const float> other,
                     LayerFidelity& layer, std::span<double> head_error,
                     std::span<double> head_norm);

/// One sequence of a cache.
struct Held {
  const Cache* cache = nullptr;
  SeqId sequence{};
};

/// Rows both hold after the same prompt, on cross layers the encoder's.  Layers without a list of
/// their own are left as they are.
void compare_rows(int layer, const Held& dense, const Held& other, LayerFidelity& result);

/// A query as a layer was asked it.
struct AskedQuery {
  std::span<const float> features{};  // [H * d], not rotated
  int32_t position = 0;
  TensorView distance_bias{};  // Attend's
};

/// What the first query after that prompt would read, at the position behind it; `dense` has seen
/// that position, `other` has not.
void compare_scores(int layer, const AskedQuery& query, const Held& dense, const Held& other,
                    LayerFidelity& result);

}  // namespace kvlab
