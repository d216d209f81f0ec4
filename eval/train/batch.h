#pragma once
// A batch of training: a pure function of configuration, seed and step, so that a run resumes from
// weights, optimiser and step alone.

#include <cstdint>
#include <vector>

#include "eval/train/token_sources.h"
#include "eval/train/train_config.h"

namespace kvlab {

struct Batch {
  int64_t sequences = 0, length = 0;
  std::vector<int64_t> ids{};    // [sequences, length + 1]
  std::vector<float> weights{};  // [sequences, length] of the tokens ids[:, 1:]
};

/// The batch of `step`.
///
/// Sequence b comes from the source whose part of [0, 1), in the order of names, holds
/// (b + u) / batch_sequences modulo 1, with u drawn per step: every batch has its shares to within
/// one sequence.  Text: windows of `sequence_length` tokens beside one another, each taken once, in
/// an order drawn anew, before any is taken twice; where the first begins is drawn with the order.
/// Recall: documents drawn with replacement, one after another until the sequence is full, the last
/// cut off; those held out are never drawn.
Batch make_batch(const TrainConfig& config, TokenSources& sources, int64_t step);

/// Where `index` lies in an order of [0, n) drawn from `seed`.
uint64_t shuffled(uint64_t index, uint64_t n, uint64_t seed);

}  // namespace kvlab
