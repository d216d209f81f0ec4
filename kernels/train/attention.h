#pragma once
// Attention's part of the table, in a file of its own.

#include "kernels/target.h"
#include "kernels/train/train_loops.h"

namespace kvlab::inline KVLAB_TARGET {

struct AttentionLoops {
  void (*run)(const TrainAttention&);
  void (*backward)(const TrainAttention&);
};
#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
void train_attention(const TrainAttention& a);
void train_attention_backward(const TrainAttention& a);
inline constexpr AttentionLoops kAttention{&train_attention, &train_attention_backward};
#else
inline constexpr AttentionLoops kAttention{nullptr, nullptr};
#endif

}  // namespace kvlab::inline KVLAB_TARGET
