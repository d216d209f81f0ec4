#pragma once
// Dense attention of a FakeModel by its definition, in double, and what a test may change in it.

#include <functional>
#include <vector>

#include "tests/methods/slim/fake_model.h"

namespace kvlab::test {

/// Features of kv head `head` of `layer` of a token; keys before RoPE.
using HeadRow = std::function<std::vector<double>(int layer, int head, int64_t token)>;

struct Changes {
  HeadRow key{}, value{};                             // empty: the model's own
  std::function<bool(int64_t q, int64_t j)> reads{};  // besides causality and window; empty: all
  /// Added to the output of a head, whatever its probabilities sum to; empty: nothing.
  HeadRow added{};
};

/// Tokens [0, n) at their positions: softmax over cap(scale <R q, R k> + slope (j - q)), sinks in
/// the denominator alone.  [layers][n, H, dv].
std::vector<std::vector<double>> dense_attention(const FakeModel& model, int64_t n,
                                                 const Changes& changes = {});

}  // namespace kvlab::test
