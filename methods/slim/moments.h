#pragma once
// What the inputs of every layer's projections are like on a calibration text.

#include <ATen/core/Tensor.h>

#include <vector>

#include "core/method.h"

namespace kvlab::slim {

/// Rows of x [D] of one layer.  The last quarter of the text is held out: factors are made from the
/// rest and measured on it.
struct Inputs {
  at::Tensor covariance{};  // E[x^T x], float64 [D, D], of every row learned from
  at::Tensor learned{};     // [n, D] in the model's dtype, evenly taken from the text
  at::Tensor held_out{};    // [m, D]
};

/// Runs the model over the calibration text in sequences of `length` tokens, without a rest of
/// fewer than 8.  One entry per layer; no text: none.  E_CONFIG: fewer than 8 tokens.
std::vector<Inputs> observe_inputs(const Calibration& calibration, int64_t length);

}  // namespace kvlab::slim
