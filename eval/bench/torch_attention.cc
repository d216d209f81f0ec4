#include "eval/bench/torch_attention.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "eval/bench/seconds.h"

namespace kvlab {
struct TorchAttention::State {
  Shape shape;
  at::Tensor queries, keys, values;  // [B, H, Q, d], [B, Hkv, N, d]
  at::Tensor mask;                   // [Q, N] additive; undefined where nothing is hidden

  bool is_square() const { return shape.queries == shape.tokens; }

  at::Tensor fused() const {
    const bool causal = is_square() && shape.queries > 1;
    return at::scaled_dot_product_attention(
        queries, keys, values, causal || !mask.defined() ? std::nullopt : std::optional(mask), 0.0,
        causal, std::nullopt, shape.heads != shape.kv_heads);
  }

  /// Query heads of a kv head become rows of one product.
  at::Tensor matmul() const {
    const int64_t group = shape.heads / shape.kv_heads;
    const at::Tensor packed =
        queries.view({shape.batch, shape.kv_heads, group * shape.queries, shape.head_dim});
    at::Tensor logits = at::matmul(packed, keys.transpose(2, 3))
                            .mul(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
    if (mask.defined())
      logits = logits.view({shape.batch, shape.kv_heads, group, shape.queries, shape.tokens})
                   .add(mask)
                   .view({shape.batch, shape.kv_heads, group * shape.queries, shape.tokens});
    return at::matmul(at::softmax(logits, -1), values)
        .view({shape.batch, shape.heads, shape.queries, shape.head_dim});
  }
};

TorchAttention::TorchAttention(const Shape& shape) : state_(std::make_unique<State>()) {
  const at::NoGradGuard no_grad;
  state_->shape = shape;
  const auto normal = [&](int64_t heads, int64_t rows) {
    return at::randn({shape.batch, heads, rows, shape.head_dim}, at::kBFloat16);
  };
  state_->queries = normal(shape.heads, shape.queries);
  state_->keys = normal(shape.kv_heads, shape.tokens);
  state_->values = normal(shape.kv_heads, shape.tokens);
  if (shape.queries == 1) return;
  const at::Tensor query =
      at::arange(shape.tokens - shape.queries, shape.tokens).view({shape.queries, 1});
  const at::Tensor key = at::arange(shape.tokens).view({1, shape.tokens});
  state_->mask = at::where(key.le(query), at::zeros({}, at::kBFloat16),
                           at::full({}, -std::numeric_limits<double>::infinity(), at::kBFloat16));
}

TorchAttention::~TorchAttention() = default;

double TorchAttention::fused_seconds() {
  const at::NoGradGuard no_grad;
  return seconds_of([&] { state_->fused(); });
}
double TorchAttention::matmul_seconds() {
  const at::NoGradGuard no_grad;
  return seconds_of([&] { state_->matmul(); });
}
double TorchAttention::difference() {
  const at::NoGradGuard no_grad;
  return state_->fused().sub(state_->matmul()).abs().max().item().toDouble();
}

}  // namespace kvlab
