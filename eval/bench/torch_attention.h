#pragma once
// What LibTorch needs for the same attention: the peer that ours is measured against.

#include <cstdint>
#include <memory>
#include <vector>

namespace kvlab {

/// bfloat16 tensors of one shape and the two ways LibTorch attends over them.
class TorchAttention {
 public:
  struct Shape {
    int64_t batch = 1, heads = 1, kv_heads = 1, head_dim = 1, tokens = 1, queries = 1;
  };
  explicit TorchAttention(const Shape& shape);
  ~TorchAttention();

  double fused_seconds();   // scaled_dot_product_attention
  double matmul_seconds();  // matmul, softmax, matmul

  /// Both answers for the same random numbers; largest difference.
  double difference();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvlab
