#include "eval/pass_rows.h"

namespace kvlab {

void PassRows::add(SeqId sequence, int64_t position, std::span<const int32_t> tokens, Want want) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool is_last = i + 1 == tokens.size();
    if (want == Want::all || (want == Want::last && is_last))
      wanted_.push_back(static_cast<int32_t>(token_ids_.size()));
    positions_.push_back(static_cast<int32_t>(position + static_cast<int64_t>(i)));
    token_ids_.push_back(tokens[i]);
  }
  sequences_.push_back(sequence);
  indptr_.push_back(static_cast<int32_t>(token_ids_.size()));
}

Pass PassRows::pass(ReadPolicy read, ChunkEnd end) const {
  return {.rows = {.sequences = sequences_, .indptr = indptr_, .positions = positions_},
          .token_ids = token_ids_,
          .read = read,
          .end = end,
          .wanted = wanted_};
}

}  // namespace kvlab
