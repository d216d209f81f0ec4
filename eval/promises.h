#pragma once
// What methods say of themselves, held against what they did.  A score of a method that breaks one
// of these is worth nothing, however good it looks.

#include <optional>
#include <string>

#include "eval/companion.h"
#include "eval/run_sample.h"

namespace kvlab {

/// No query may read what comes behind it: replaces the last of the sample's first (at most 64)
/// tokens, fed as one pass, and compares the scores of all others, bit for bit.  E_READS_FUTURE.
/// Says nothing of runs that do not repeat themselves.
void check_causality(const Subject& subject, std::string_view who, const Sample& sample,
                     ReadPolicy read);

/// Watches the process' memory while a sample is prefilled: rows that a method keeps outside the
/// cache are not in its bytes.  E_BYTES_MISMATCH when more was kept than half of what was saved and
/// 8 MiB, which is more than libraries keep for themselves when they run for the first time.
class MemoryWatch final : public Companion {
 public:
  MemoryWatch(std::string_view who, Dtype run_dtype) : who_(who), run_dtype_(run_dtype) {}
  void joins(Cache& cache) override;
  void before(const EncoderPass&) override {}
  void before(const Pass&) override {}
  void logits(int64_t, TensorView, std::span<const int32_t>) override {}
  void prefilled(const Cache& cache, SeqId sequence) override;
  void branch(Branch) override {}
  void rejoin() override {}

 private:
  std::string who_;
  Dtype run_dtype_;
  int64_t heap_ = 0, scratch_ = 0;
};

/// What is wrong with a cell whose method says that its reads equal the dense cache's: nothing when
/// its NLLs lie within 1e-4 of the dense run's on average (0.05 in a 16-bit run), and, in float32,
/// it generated the same tokens.
std::optional<std::string> broken_exactness(const CellOutcome& cell, const CellOutcome& dense);

}  // namespace kvlab
