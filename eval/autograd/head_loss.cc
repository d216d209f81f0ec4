#include "eval/autograd/head_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "core/error.h"
#include "eval/autograd/decoder_functions.h"

namespace kvlab {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// Where the gradients of a block of rows go; undefined: nobody asks.
struct Gradients {
  at::Tensor hidden{}, head{};
};

/// From those of the logits of rows from `first` on.
void add_gradients(const at::Tensor& dlogits, const at::Tensor& hidden, const at::Tensor& head,
                   int64_t first, Gradients& gradients) {
  if (gradients.hidden.defined())
    gradients.hidden.narrow(0, first, hidden.size(0)).copy_(at::matmul(dlogits, head));
  if (gradients.head.defined()) gradients.head.add_(at::matmul(dlogits.t(), hidden));
}

/// Loss of rows [first, first + n); adds to the gradients.
at::Tensor block_loss(const HeadLoss& call, int64_t first, int64_t n, Gradients& gradients) {
  const at::Tensor hidden = call.hidden.narrow(0, first, n);
  const at::Tensor targets = call.targets.narrow(0, first, n).unsqueeze(1);
  const at::Tensor weights = call.weights.narrow(0, first, n).unsqueeze(1);
  at::Tensor logits = at::linear(hidden, call.head);
  const bool wants = gradients.hidden.defined() || gradients.head.defined();
  if (logits.is_cpu() && logits.scalar_type() == at::kBFloat16 && call.softcap == 0) {
    const double sum = loss_in_place(logits, targets, weights, wants);
    if (wants) add_gradients(logits, hidden, call.head, first, gradients);
    return at::empty({}, weights.options()).fill_(sum);
  }
  logits = logits.to(weights.scalar_type());
  at::Tensor slope;  // of the soft-cap
  if (call.softcap > 0) {
    const at::Tensor bent = logits.div_(call.softcap).tanh_();
    slope = 1 - bent.square();
    logits = bent * call.softcap;
  }
  at::Tensor p = at::_log_softmax(logits, 1, false);
  const at::Tensor sum = -(p.gather(1, targets) * weights).sum();
  if (wants) {
    p.exp_().scatter_add_(1, targets, at::empty_like(weights).fill_(-1)).mul_(weights);
    if (slope.defined()) p.mul_(slope);
    add_gradients(p.to(hidden.scalar_type()), hidden, call.head, first, gradients);
  }
  return sum;
}

struct HeadLossFunction : Function<HeadLossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& head, const HeadLoss& call) {
    const int64_t rows = hidden.size(0);
    Gradients gradients;
    if (hidden.requires_grad()) gradients.hidden = at::empty_like(hidden);
    if (head.requires_grad()) gradients.head = at::zeros(head.sizes(), call.weights.options());
    at::Tensor sum = at::zeros({}, call.weights.options());
    for (int64_t first = 0; first < rows; first += call.rows_at_once)
      sum.add_(block_loss(call, first, std::min(call.rows_at_once, rows - first), gradients));
    context->saved_data["hidden"] = gradients.hidden;
    context->saved_data["head"] = gradients.head;
    return sum;
  }

  static variable_list backward(AutogradContext* context, variable_list upstream) {
    const auto scaled = [&](const char* name) {
      const at::Tensor gradient = context->saved_data[name].toTensor();
      return gradient.defined() ? gradient * upstream[0].to(gradient.scalar_type()) : gradient;
    };
    return {scaled("hidden"), scaled("head"), at::Tensor()};
  }
};

}  // namespace

at::Tensor head_loss(const HeadLoss& call) {
  KVLAB_CHECK(call.hidden.dim() == 2 && call.targets.size(0) == call.hidden.size(0) &&
              call.weights.size(0) == call.hidden.size(0) && call.rows_at_once > 0);
  return HeadLossFunction::apply(call.hidden, call.head, call);
}

}  // namespace kvlab
