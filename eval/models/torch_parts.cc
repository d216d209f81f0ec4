#include "eval/models/torch_parts.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>

#include <algorithm>

#include "core/torch.h"

namespace kvlab {
namespace {

/// Whether LibTorch multiplies matrices of float16 by the CPU's own instructions.  Elsewhere it
/// takes one dot product after the other: 21 GFLOP/s where float32 reaches 80 (one core of a Zen
/// 4).
bool multiplies_float16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512fp16") != 0;
#else
  return true;
#endif
}

constexpr int64_t kWideRows = 16;        // from here on widening the weights pays
constexpr int64_t kWideFeatures = 1024;  // widened at the same time
constexpr int64_t kMlpRows = 1024;       // in the MLP at the same time

}  // namespace

int64_t bytes_of(const Tensor& tensor) {
  return tensor.view ? tensor.view.numel() * size_of(tensor.view.dtype) : 0;
}

int64_t bytes_of(const Linear& linear) { return bytes_of(linear.weight) + bytes_of(linear.bias); }

at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias) {
  static const bool kInHardware = multiplies_float16();
  if (x.scalar_type() != at::kHalf || kInHardware || x.size(0) < kWideRows)
    return at::linear(x, weight, bias);
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options());
  for (int64_t first = 0; first < weight.size(0); first += kWideFeatures) {
    const int64_t n = std::min(kWideFeatures, weight.size(0) - first);
    at::Tensor part = at::linear(wide, weight.narrow(0, first, n).to(at::kFloat));
    if (bias) part.add_(bias->narrow(0, first, n));
    out.narrow(1, first, n).copy_(part);
  }
  return out;
}

TorchLinear::TorchLinear(const Linear& linear) : weight(to_torch(linear.weight.view)) {
  if (linear.bias.view) bias = to_torch(linear.bias.view);
}

void activate(Activation activation, at::Tensor& x) {
  switch (activation) {
    case Activation::silu:
      at::silu_(x);
      break;
    case Activation::gelu:
      at::gelu_(x, "none");
      break;
    case Activation::gelu_tanh:
      at::gelu_(x, "tanh");
      break;
    case Activation::relu:
      at::relu_(x);
      break;
  }
}

at::Tensor ids_tensor(std::span<const int32_t> ids) {
  return at::from_blob(const_cast<int32_t*>(ids.data()), {static_cast<int64_t>(ids.size())},
                       at::kInt);
}

void in_blocks_of_rows(const at::Tensor& rows,
                       const std::function<void(at::Tensor& part)>& change) {
  for (int64_t first = 0; first < rows.size(0); first += kMlpRows) {
    at::Tensor part = rows.narrow(0, first, std::min(kMlpRows, rows.size(0) - first));
    change(part);
  }
}

void give_logits(const at::Tensor& hidden,
                 const std::function<at::Tensor(const at::Tensor& part)>& logits_of,
                 const TakeLogits& take) {
  for (int64_t first = 0; first < hidden.size(0); first += kLogitsRows) {
    const int64_t rows = std::min(kLogitsRows, hidden.size(0) - first);
    const at::Tensor block = logits_of(hidden.narrow(0, first, rows)).to(at::kFloat);
    take(first, view_of(block));
  }
}

}  // namespace kvlab
