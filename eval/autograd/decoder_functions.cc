#include "eval/autograd/decoder_functions.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"
#include "kernels/train/train_loops.h"

namespace kvlab {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

const TrainLoops& loops() {
  static const TrainLoops& best = train_loops(usable_isas().back());
  return best;
}

constexpr int64_t kRowsAtOnce = 64;

/// Calls work(first, rows) for blocks of rows, on the pool.
template <class Work>
void by_rows(int64_t rows, const Work& work) {
  const auto blocks = static_cast<int>((rows + kRowsAtOnce - 1) / kRowsAtOnce);
  run_parallel(blocks, pool_threads(), [&](int block, int) {
    const int64_t first = block * kRowsAtOnce;
    work(block, first, std::min(kRowsAtOnce, rows - first));
  });
}

const uint16_t* halves(const at::Tensor& t) {
  return static_cast<const uint16_t*>(t.const_data_ptr());
}
uint16_t* mutable_halves(const at::Tensor& t) { return static_cast<uint16_t*>(t.data_ptr()); }
const float* floats(const at::Tensor& t) { return t.const_data_ptr<float>(); }

struct AddNorm : Function<AddNorm> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x,
                               const std::optional<at::Tensor>& delta, const at::Tensor& weight,
                               double eps, bool one_plus) {
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const at::Tensor from = x.contiguous(), add = delta ? delta->contiguous() : at::Tensor();
    const at::Tensor sum = delta ? at::empty_like(from) : from;
    const at::Tensor scale = at::empty({rows}, x.options());
    const at::Tensor out = at::empty(x.sizes(), x.options().dtype(at::kBFloat16));
    by_rows(rows, [&](int, int64_t first, int64_t n) {
      loops().norm({.x = floats(from) + first * width,
                    .delta = add.defined() ? halves(add) + first * width : nullptr,
                    .weight = floats(weight),
                    .one_plus = one_plus,
                    .eps = static_cast<float>(eps),
                    .rows = n,
                    .width = width,
                    .sum = sum.data_ptr<float>() + first * width,
                    .scale = scale.data_ptr<float>() + first,
                    .out = mutable_halves(out) + first * width});
    });
    context->save_for_backward({sum, scale, weight});
    context->saved_data["one_plus"] = one_plus;
    context->saved_data["has_delta"] = delta.has_value();
    if (!delta) return {out};
    return {out, sum};
  }

  static variable_list backward(AutogradContext* context, variable_list upstream) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &sum = saved[0], &scale = saved[1], &weight = saved[2];
    const int64_t width = sum.size(-1), rows = sum.numel() / width;
    const bool has_delta = context->saved_data["has_delta"].toBool();
    const at::Tensor dout = upstream[0].contiguous();
    const at::Tensor dsum =
        has_delta && upstream[1].defined() ? upstream[1].contiguous() : at::Tensor();
    const at::Tensor dx = at::empty_like(sum);
    const at::Tensor ddelta =
        has_delta ? at::empty(sum.sizes(), sum.options().dtype(at::kBFloat16)) : at::Tensor();
    const int64_t blocks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    const at::Tensor parts = at::zeros({blocks, width}, sum.options());
    by_rows(rows, [&](int block, int64_t first, int64_t n) {
      loops().norm_backward({.sum = floats(sum) + first * width,
                             .weight = floats(weight),
                             .one_plus = context->saved_data["one_plus"].toBool(),
                             .scale = floats(scale) + first,
                             .dout = halves(dout) + first * width,
                             .dsum = dsum.defined() ? floats(dsum) + first * width : nullptr,
                             .rows = n,
                             .width = width,
                             .dx = dx.data_ptr<float>() + first * width,
                             .ddelta = has_delta ? mutable_halves(ddelta) + first * width : nullptr,
                             .dweight = parts.data_ptr<float>() + block * width});
    });
    return {dx, ddelta, parts.sum(0), at::Tensor(), at::Tensor()};
  }
};

struct Gated : Function<Gated> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_up) {
    const at::Tensor from = gate_up.contiguous();
    const int64_t width = from.size(-1) / 2, rows = from.numel() / (2 * width);
    std::vector<int64_t> sizes = from.sizes().vec();
    sizes.back() = width;
    const at::Tensor out = at::empty(sizes, from.options());
    by_rows(rows, [&](int, int64_t first, int64_t n) {
      loops().gate({.gate_up = halves(from) + first * 2 * width,
                    .rows = n,
                    .width = width,
                    .out = mutable_halves(out) + first * width});
    });
    context->save_for_backward({from});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list upstream) {
    const at::Tensor from = context->get_saved_variables()[0];
    const at::Tensor dout = upstream[0].contiguous(), into = at::empty_like(from);
    const int64_t width = from.size(-1) / 2, rows = from.numel() / (2 * width);
    by_rows(rows, [&](int, int64_t first, int64_t n) {
      loops().gate_backward({.gate_up = halves(from) + first * 2 * width,
                             .dout = halves(dout) + first * width,
                             .rows = n,
                             .width = width,
                             .dgate_up = mutable_halves(into) + first * 2 * width});
    });
    return {into};
  }
};

/// Where the tensors of one kv head of one sequence lie.
struct Heads {
  int64_t heads, kv_heads, d, tokens;
  int64_t stride() const { return (heads + 2 * kv_heads) * d; }
  int64_t group() const { return heads / kv_heads; }
  TrainAttention call(const at::Tensor& projections, const at::Tensor& out, const at::Tensor& lse,
                      const at::Tensor& cos, const at::Tensor& sin, double scale, int task,
                      const at::Tensor& work, int thread) const {
    const int64_t sequence = task / kv_heads, kv = task % kv_heads;
    const uint16_t* row = halves(projections) + sequence * tokens * stride();
    return {.tokens = tokens,
            .head_dim = d,
            .group = group(),
            .queries = row + kv * group() * d,
            .keys = row + (heads + kv) * d,
            .values = row + (heads + kv_heads + kv) * d,
            .stride = stride(),
            .cos = floats(cos),
            .sin = floats(sin),
            .scale = static_cast<float>(scale),
            .out = mutable_halves(out) + (sequence * tokens * heads + kv * group()) * d,
            .out_stride = heads * d,
            .lse = lse.data_ptr<float>() + (sequence * heads + kv * group()) * tokens,
            .work = static_cast<u8*>(work.data_ptr()) + thread * work.stride(0)};
  }
};

at::Tensor work_of(const Heads& heads) {
  const int64_t bytes = (train_attention_bytes(heads.tokens, heads.d) + 4095) / 4096 * 4096;
  return at::empty({pool_threads(), bytes}, at::TensorOptions().dtype(at::kByte));
}

struct FusedAttention : Function<FusedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& projections,
                            const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                            int64_t kv_heads, double scale) {
    const at::Tensor from = projections.contiguous();
    const int64_t batch = from.size(0), tokens = from.size(1);
    const Heads shape{heads, kv_heads, from.size(2) / (heads + 2 * kv_heads), tokens};
    const at::Tensor out = at::empty({batch, tokens, heads * shape.d}, from.options());
    const at::Tensor lse = at::empty({batch, heads, tokens}, cos.options());
    const at::Tensor work = work_of(shape);
    run_parallel(static_cast<int>(batch * kv_heads), pool_threads(), [&](int task, int thread) {
      loops().attention(shape.call(from, out, lse, cos, sin, scale, task, work, thread));
    });
    context->save_for_backward({from, out, lse, cos, sin});
    context->saved_data["heads"] = heads;
    context->saved_data["kv_heads"] = kv_heads;
    context->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list upstream) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &from = saved[0], &out = saved[1], &lse = saved[2];
    const int64_t heads = context->saved_data["heads"].toInt();
    const int64_t kv_heads = context->saved_data["kv_heads"].toInt();
    const double scale = context->saved_data["scale"].toDouble();
    const Heads shape{heads, kv_heads, from.size(2) / (heads + 2 * kv_heads), from.size(1)};
    const at::Tensor dout = upstream[0].contiguous(), into = at::empty_like(from);
    const at::Tensor work = work_of(shape);
    run_parallel(static_cast<int>(from.size(0) * kv_heads), pool_threads(),
                 [&](int task, int thread) {
                   TrainAttention call =
                       shape.call(from, out, lse, saved[3], saved[4], scale, task, work, thread);
                   call.dout = halves(dout) + (call.out - halves(out));
                   call.dqueries = mutable_halves(into) + (call.queries - halves(from));
                   call.dkeys = mutable_halves(into) + (call.keys - halves(from));
                   call.dvalues = mutable_halves(into) + (call.values - halves(from));
                   loops().attention_backward(call);
                 });
    return {into, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool has_decoder_functions(const DecoderConfig& config, const at::Tensor& weight,
                           at::ScalarType compute) {
  const bool all_seen = std::ranges::all_of(config.window_left, [](int64_t w) { return w < 0; });
  return compute == at::kBFloat16 && weight.scalar_type() == at::kFloat && weight.is_cpu() &&
         loops().attention != nullptr && all_seen && config.attention_softcap == 0 &&
         !config.qk_norm && !config.norms_after && config.activation == Activation::silu &&
         config.rope.style == Rope::Style::half_split &&
         config.rope.rotary_dim == config.head_dim && config.head_dim % 32 == 0 &&
         config.head_dim <= 256 && config.attention_scale > 0;
}

std::pair<at::Tensor, at::Tensor> add_norm(const at::Tensor& x, const at::Tensor& delta,
                                           const at::Tensor& weight, const DecoderConfig& config) {
  const auto added = delta.defined() ? std::optional(delta) : std::nullopt;
  const variable_list out = AddNorm::apply(x, added, weight, config.norm_eps,
                                           config.norm_form == NormForm::one_plus_weight);
  return {delta.defined() ? out[1] : x, out[0]};
}

at::Tensor gated(const at::Tensor& gate_up) { return Gated::apply(gate_up); }

at::Tensor fused_attention(const at::Tensor& projections, const at::Tensor& cos,
                           const at::Tensor& sin, const DecoderConfig& config) {
  return FusedAttention::apply(projections, cos, sin, int64_t{config.num_heads},
                               int64_t{config.num_kv_heads}, config.attention_scale);
}

double loss_in_place(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                     bool gradient) {
  const int64_t rows = logits.size(0), width = logits.size(1);
  std::vector<double> parts(static_cast<size_t>((rows + kRowsAtOnce - 1) / kRowsAtOnce));
  by_rows(rows, [&](int block, int64_t first, int64_t n) {
    parts[static_cast<size_t>(block)] =
        loops().loss({.logits = mutable_halves(logits) + first * width,
                      .targets = targets.const_data_ptr<int64_t>() + first,
                      .weights = floats(weights) + first,
                      .rows = n,
                      .width = width,
                      .gradient = gradient});
  });
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

}  // namespace kvlab
