#pragma once
// Somebody who goes along with a sample's run, pass by pass, to compare.

#include <span>

#include "core/cache.h"
#include "eval/model.h"

namespace kvlab {

class Companion {
 public:
  virtual ~Companion() = default;
  /// The run's own cache, before anything is fed: it may be watched.
  virtual void joins(Cache& cache) = 0;
  /// The encoder is about to run; its sequence is the run's own.
  virtual void before(const EncoderPass& pass) = 0;
  /// A pass is about to run; its rows' sequence is the run's own.
  virtual void before(const Pass& pass) = 0;
  /// Logits of the wanted rows [first, first + block.size(0)) of that pass and their labels, those
  /// nobody scores included.
  virtual void logits(int64_t first, TensorView block, std::span<const int32_t> labels) = 0;
  /// The prompt is in the cache and compressed.
  virtual void prefilled(const Cache& cache, SeqId sequence) = 0;
  /// A turn runs in a fork of the context, or from nothing; and is over.
  enum class Branch : u8 { fork, empty };
  virtual void branch(Branch how) = 0;
  virtual void rejoin() = 0;
};

}  // namespace kvlab
