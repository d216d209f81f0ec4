#pragma once
// A pass of a network, with attention left to somebody else.

#include <cstdint>
#include <span>
#include <string_view>

#include "core/chunk.h"

namespace kvlab {

struct ForwardInput {
  RowMap rows{};
  std::span<const int32_t> token_ids{};
  std::span<const int32_t> wanted{};  // rows whose logits are wanted
};

/// E_POSITION: a token id outside the vocabulary; `who` is the network.
void check_tokens(std::string_view who, std::span<const int32_t> token_ids, int64_t vocab_size);

/// The same of a pass, and E_SHAPE: another number of ids than rows, wanted rows that do not rise.
void check_input(std::string_view who, const ForwardInput& input, int64_t vocab_size);

/// Who attends for the network: a cache, or a plain softmax over the pass.
class Attention {
 public:
  virtual ~Attention() = default;
  /// What `attend` is to be given of this layer; nothing else is computed.
  virtual Needs needs(int layer) const = 0;
  /// given: the fields of needs(given.layer), of all rows of the pass.  queries [R, H, d] not
  /// rotated; out [R, H, dv], to be written.
  virtual void attend(const Append& given, TensorView queries, TensorView out) = 0;
};

}  // namespace kvlab
