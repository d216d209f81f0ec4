#pragma once
// T5's relative position bias: distances fall into buckets, one by one while they are small, ever
// more to a bucket from half of them on; each head adds a number per bucket to its logits.

#include <cstdint>

namespace at {
class Tensor;
}

namespace kvlab {

struct Buckets {
  int count = 0, max_distance = 0;
  bool both_ways = false;  // of an encoder: half of them are for keys ahead of the query
};

/// float32 [H, n] of weights [count, H]: what is added where the key lies `first`, `first` + 1, ...
/// from the query (key position - query position).  The buckets are those of transformers, whose
/// float32 arithmetic decides where one ends.
at::Tensor bias_by_distance(const at::Tensor& weights, const Buckets& buckets, int64_t first,
                            int64_t n);

}  // namespace kvlab
