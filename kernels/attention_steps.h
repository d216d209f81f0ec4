#pragma once
// The steps of attention that depend on no codec: plain C functions, one table per instruction set.

#include "kernels/codec_kernels.h"

namespace kvlab {

/// Scores of one block of rows -> weights exp(logit - max), and the running state of each query:
///   x[r, t] = scale * (score[r, t] * key_scale[t] + bias[r]) + slope[r] * (position[t] -
///             query_position[r]) + distance_bias[r][min(seen_from[r] - position[t], distances -
///             1)]
///   logit   = softcap * tanh(x / softcap), or x without a cap, where
///             from[t] <= query_position[r] <= until[t] and
///             position[t] >= query_position[r] - window_left, else -infinity.
/// max and sum are in base 2: max = log2(e) * the largest logit so far, -infinity before the first;
/// sum = sum of the weights.  factor[r] is what earlier sums are to be multiplied by.
struct SoftmaxBlock {
  float* scores = nullptr;  // [rows, stride]; out: weights, 0 from `tokens` to a multiple of 16
  int64_t stride = 0;
  int32_t rows = 0, tokens = 0;
  float scale = 1, softcap = 0;                 // softcap 0: none
  const float* bias = nullptr;                  // [rows]; null: none
  const float* slope = nullptr;                 // [rows]; null: none
  const float* key_scale = nullptr;             // [tokens]; null: none
  const float* const* distance_bias = nullptr;  // [rows] of [distances]; null: none
  const int32_t* seen_from = nullptr;           // [rows]
  int32_t distances = 0;
  const int32_t* query_position = nullptr;  // [rows]
  // [tokens], readable to the next multiple of 16.  from null: every row is visible.
  const int32_t *position = nullptr, *from = nullptr, *until = nullptr;
  int32_t window_left = -1;                                 // -1: none
  float *max = nullptr, *sum = nullptr, *factor = nullptr;  // [rows]
};

/// Probabilities exp(logit - lse) of rows [first, first + tokens) of a block, added to (or
/// maximised into) `mass`: mass[(t - first) * mass_stride + column[r]].  Scores are as in
/// SoftmaxBlock, whose `max` holds log2(e) * lse.
struct MassBlock {
  SoftmaxBlock block;
  int32_t first = 0, tokens = 0;
  bool take_max = false;
  float* mass = nullptr;
  int64_t mass_stride = 0;
  const int32_t* column = nullptr;  // [rows]
};

/// RoPE of float32 rows in place: pairs turn by position * frequency.  Angles come from two tables
/// in float32, cos and sin of (position & 63) and of (position & ~63), multiplied.
struct RotateRows {
  float* data = nullptr;  // [rows, stride]
  int64_t stride = 0;
  int32_t rows = 0, pairs = 0;
  bool interleaved = false;
  const int32_t* positions = nullptr;  // [rows]
  const float* fine = nullptr;         // [64][2][pairs]: cos, sin
  const float* coarse = nullptr;       // [max_position / 64 + 1][2][pairs], times attention_factor
};

/// Rows of the run's dtype to and from float32.  dtype: 0 float32, 1 float16, 2 bfloat16, 3
/// float64.
struct ConvertRow {
  void* data = nullptr;
  int32_t dtype = 0;
  float* floats = nullptr;
  int64_t count = 0;
};

struct AttentionSteps {
  void (*softmax)(const SoftmaxBlock&);
  void (*mass)(const MassBlock&);
  void (*rotate)(const RotateRows&);
  void (*load)(const ConvertRow&);
  void (*store)(const ConvertRow&);
  /// to[i] = to[i] * a + from[i] * b
  void (*blend)(float* to, float a, const float* from, float b, int64_t count);
  /// Orthogonal Hadamard transform of rows of `width` features, see kernels/hadamard.h.
  void (*hadamard)(float* data, int64_t stride, int32_t rows, int32_t width, bool inverse);
};

/// Of an instruction set this CPU has.
const AttentionSteps& attention_steps(Isa isa);

}  // namespace kvlab
