#pragma once
// The loops of training that products of matrices leave over, forward and backward: rows of
// norms, gates and losses, and whole heads of attention.  One table per CPU instruction set.
// bfloat16 numbers are uint16_t; everything is computed in float32 and rounded once.

#include "kernels/codec_kernels.h"

namespace kvlab {

/// sum = x + delta;  scale = 1 / sqrt(mean(sum^2) + eps);  out = sum * scale * gain, with gain =
/// weight, or 1 + weight.
struct NormRows {
  const float* x = nullptr;         // [rows, width]
  const uint16_t* delta = nullptr;  // [rows, width]; null: 0, and `sum` is not written
  const float* weight = nullptr;    // [width]
  bool one_plus = false;
  float eps = 0;
  int64_t rows = 0, width = 0;
  float* sum = nullptr;    // [rows, width]
  float* scale = nullptr;  // [rows]
  uint16_t* out = nullptr;
};

/// dx = dsum + scale * (gain * dout - sum * scale^2 / width * <gain * dout, sum>);  ddelta = dx;
/// dweight += sum over rows of dout * sum * scale.
struct NormRowsBackward {
  const float* sum = nullptr;
  const float* weight = nullptr;
  bool one_plus = false;
  const float* scale = nullptr;
  const uint16_t* dout = nullptr;
  const float* dsum = nullptr;  // null: 0
  int64_t rows = 0, width = 0;
  float* dx = nullptr;
  uint16_t* ddelta = nullptr;  // null: not wanted
  float* dweight = nullptr;    // [width]
};

/// out = silu(gate) * up, the two side by side.
struct GateRows {
  const uint16_t* gate_up = nullptr;  // [rows, 2 width]
  const uint16_t* dout = nullptr;     // [rows, width], backward
  int64_t rows = 0, width = 0;
  uint16_t* out = nullptr;       // [rows, width], forward
  uint16_t* dgate_up = nullptr;  // [rows, 2 width], backward
};

/// loss = sum over rows of weight * (lse(logits) - logits[target]);  with `gradient`, logits
/// become weight * (softmax(logits) - onehot(target)).
struct LossRows {
  uint16_t* logits = nullptr;  // [rows, width]
  const int64_t* targets = nullptr;
  const float* weights = nullptr;
  int64_t rows = 0, width = 0;
  bool gradient = false;
};

/// Causal attention of the query heads of one kv head of one sequence.  Rows of all three are
/// `stride` numbers apart, query heads head_dim; queries and keys are turned (half-split, all of a
/// head) before they meet: cos, sin [tokens, head_dim / 2].  head_dim is a multiple of 32, at most
/// 256.
struct TrainAttention {
  int64_t tokens = 0, head_dim = 0, group = 0;
  const uint16_t *queries = nullptr, *keys = nullptr, *values = nullptr;
  int64_t stride = 0;
  const float *cos = nullptr, *sin = nullptr;
  float scale = 0;
  uint16_t* out = nullptr;  // row t of head g: out + t * out_stride + g * head_dim
  int64_t out_stride = 0;
  float* lse = nullptr;  // [group, tokens], in base 2: what backward needs
  // Backward: gradients, laid out as what they are of.
  const uint16_t* dout = nullptr;
  uint16_t *dqueries = nullptr, *dkeys = nullptr, *dvalues = nullptr;
  u8* work = nullptr;  // train_attention_bytes(), 64-aligned
};

struct TrainLoops {
  void (*norm)(const NormRows&);
  void (*norm_backward)(const NormRowsBackward&);
  void (*gate)(const GateRows&);
  void (*gate_backward)(const GateRows&);
  double (*loss)(const LossRows&);
  /// Null where the instruction set has no products of bfloat16.
  void (*attention)(const TrainAttention&);
  void (*attention_backward)(const TrainAttention&);
};
const TrainLoops& train_loops(Isa isa);

int64_t train_attention_bytes(int64_t tokens, int64_t head_dim);

}  // namespace kvlab
