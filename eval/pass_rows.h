#pragma once
// The rows of one forward pass, put together sequence by sequence.

#include <cstdint>
#include <span>
#include <vector>

#include "eval/model.h"

namespace kvlab {

class PassRows {
 public:
  enum class Want : unsigned char { nothing, last, all };  // logits of which of the rows added

  /// `tokens` of `sequence` at the positions that follow `position`, itself included.
  void add(SeqId sequence, int64_t position, std::span<const int32_t> tokens, Want want);

  bool empty() const { return token_ids_.empty(); }
  int64_t size() const { return static_cast<int64_t>(token_ids_.size()); }
  std::span<const int32_t> wanted() const { return wanted_; }

  /// Valid while this object lives and nothing is added.
  Pass pass(ReadPolicy read, ChunkEnd end) const;

 private:
  std::vector<SeqId> sequences_{};
  std::vector<int32_t> indptr_{0}, positions_{}, token_ids_{}, wanted_{};
};

}  // namespace kvlab
