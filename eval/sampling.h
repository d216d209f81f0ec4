#pragma once
// How the next token is chosen from logits.

#include <cstdint>
#include <span>

#include "eval/random.h"

namespace kvlab {

struct Sampling {
  double temperature = 0;  // 0: greedy, the largest logit, ties to the lowest token
  int64_t top_k = 0;       // of the k largest logits, 0: of all; ties to the lowest token
  double top_p = 1;        // of those, the fewest largest whose probability reaches top_p
  uint64_t seed = 0;       // used by callers: one stream per sequence, named "generate"
};

/// E_CONFIG: temperature below 0 or not finite, top_p outside (0, 1], top_k below 0, top_k or top_p
/// with temperature 0 (greedy has no use for them).  E_BAD_TOPK: top_k above the vocabulary.
void check(const Sampling& sampling, int64_t vocab_size);

/// One draw of `random` unless greedy; the kept tokens are walked in the order of their ids.
/// Probabilities in double.  E_NONFINITE: a logit is NaN or +infinity, or all are -infinity.
int32_t choose(std::span<const float> logits, const Sampling& sampling, SplitMix64& random);

}  // namespace kvlab
