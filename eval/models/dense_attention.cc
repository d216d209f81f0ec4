#include "eval/models/dense_attention.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/torch.h"
#include "eval/models/rotate.h"

namespace kvlab {
namespace {

constexpr int64_t kQueryRows = 256;  // rows whose logits exist at the same time

at::Tensor heads_first(const TensorView& x) {
  return to_torch(x).to(at::kFloat).transpose(0, 1).contiguous();
}

/// [rows, T], true where the key may not be read.
at::Tensor hidden_from(const at::Tensor& queries, const at::Tensor& keys, int64_t window_left) {
  const at::Tensor distance = queries.unsqueeze(1).sub(keys.unsqueeze(0));
  const at::Tensor future = distance.lt(0);
  return window_left < 0 ? future : future.logical_or(distance.gt(window_left));
}

/// [H, rows, T]: what each head adds where the query is so far behind the key.
at::Tensor bias_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& table) {
  const at::Tensor distance = queries.unsqueeze(1).sub(keys.unsqueeze(0));
  const at::Tensor entry = distance.clamp(0, table.size(1) - 1);
  return table.index_select(1, entry.flatten()).view({-1, queries.size(0), keys.size(0)});
}

}  // namespace

void dense_attention(const DenseAttention& call) {
  const Layer& shape = *call.shape;
  KVLAB_REQUIRE(!shape.learned_sink && shape.alibi_slopes.empty(), "E_UNSUPPORTED",
                "dense attention: learned sinks and ALiBi are not computed here");
  const int64_t rows = call.queries.size(0);
  const int64_t groups = shape.num_heads / shape.num_kv_heads;
  at::Tensor rotated = at::empty_like(to_torch(call.queries));
  Rotation(shape.rope, call.positions).apply(call.queries, view_of(rotated));
  // [Hkv, G, T, d] against [Hkv, 1, T, d]: query head h reads kv head h / G.
  const at::Tensor q =
      heads_first(view_of(rotated)).view({shape.num_kv_heads, groups, rows, shape.head_dim});
  const at::Tensor k = heads_first(call.keys).unsqueeze(1);
  const at::Tensor v = heads_first(call.values).unsqueeze(1);
  const at::Tensor positions =
      at::from_blob(const_cast<int32_t*>(call.positions.data()), {rows}, at::kInt).to(at::kLong);
  at::Tensor out = to_torch(call.out).view({rows, shape.num_kv_heads, groups, shape.value_dim});
  for (int64_t first = 0; first < rows; first += kQueryRows) {
    const int64_t n = std::min(kQueryRows, rows - first);
    at::Tensor logits = at::matmul(q.narrow(2, first, n), k.transpose(-1, -2)).mul_(shape.scale);
    const at::Tensor asking = positions.narrow(0, first, n);
    if (shape.distance_bias > 0)
      logits.add_(bias_of(asking, positions, to_torch(call.distance_bias)).view_as(logits));
    if (shape.softcap > 0) logits.div_(shape.softcap).tanh_().mul_(shape.softcap);
    if (shape.kind != Layer::Kind::cross)
      logits.masked_fill_(hidden_from(asking, positions, shape.window_left),
                          -std::numeric_limits<float>::infinity());
    const at::Tensor read = at::matmul(logits.softmax(-1), v);  // [Hkv, G, n, dv]
    out.narrow(0, first, n).copy_(read.permute({2, 0, 1, 3}));
  }
}

}  // namespace kvlab
