#pragma once
// Head and cross-entropy in one, so that a batch's logits never exist at once: 4096 tokens of a
// vocabulary of 4096 would take 64 MiB, and as much again for their gradients.

#include <ATen/core/Tensor.h>

namespace kvlab {

struct HeadLoss {
  at::Tensor hidden{};   // [R, D]
  at::Tensor head{};     // [V, D], hidden's dtype
  at::Tensor targets{};  // [R] int64
  at::Tensor weights{};  // [R], the dtype of softmax and loss
  double softcap = 0;    // logits = cap tanh(logits / cap); 0: none
  int64_t rows_at_once = 0;
};

/// sum_r weights[r] * (lse(logits[r]) - logits[r, targets[r]]), a scalar with gradients for hidden
/// and head.  They are computed with the loss, a block of rows after the other: with
/// p = softmax(logits), dlogits = weights[r] (p - onehot(target)), dhidden = dlogits head,
/// dhead = sum over blocks of dlogits^T hidden, summed in the dtype of `weights`.
at::Tensor head_loss(const HeadLoss& call);

}  // namespace kvlab
