#pragma once
// What is kept of one row of logits.

#include <cstdint>
#include <span>

namespace kvlab {

struct TokenScore {
  double nll = 0;         // -ln softmax(logits)[label], sums in float64
  int32_t predicted = 0;  // arg max, ties to the lowest index
};

/// The arg max.  E_NONFINITE when a logit is NaN or infinite.
int32_t arg_max(std::span<const float> logits);

/// E_NONFINITE as well; E_POSITION when the label lies outside the vocabulary.
TokenScore score_token(std::span<const float> logits, int32_t label);

}  // namespace kvlab
