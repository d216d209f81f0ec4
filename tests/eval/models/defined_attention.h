#pragma once
// A network without a cache: attention from its definition, over the pass itself.

#include <cstring>
#include <functional>

#include "eval/models/decoder.h"
#include "eval/models/dense_attention.h"
#include "eval/pass_rows.h"
#include "tests/eval/models/values.h"

namespace kvlab::test {

class DefinedAttention final : public Attention {
 public:
  /// `shape` must outlive the attention.
  DefinedAttention(const ModelShape& shape, const RowMap& rows) : shape_(shape), rows_(rows) {}

  Needs needs(int) const override { return Needs::keys | Needs::values; }

  void attend(const Append& given, TensorView queries, TensorView out) override {
    dense_attention({.shape = &shape_.layers[static_cast<size_t>(given.layer)],
                     .positions = rows_.positions,
                     .queries = queries,
                     .keys = given.keys,
                     .values = given.values,
                     .out = out});
  }

 private:
  const ModelShape& shape_;
  RowMap rows_;
};

/// Logits of every token of one sequence, float32 [tokens, V].
inline Tensor defined_logits(const Decoder& decoder, const ModelShape& shape,
                             std::span<const int32_t> tokens) {
  PassRows rows;
  rows.add(SeqId{}, 0, tokens, PassRows::Want::all);
  const Pass pass = rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt);
  const Decoder::Input input{.rows = pass.rows, .token_ids = pass.token_ids, .wanted = pass.wanted};
  decoder.check(input);
  Tensor logits =
      make_tensor("logits", Dtype::f32, {static_cast<int64_t>(tokens.size()), shape.vocab_size});
  DefinedAttention attention(shape, pass.rows);
  decoder.run(input, attention, [&logits](int64_t first, TensorView block) {
    std::memcpy(logits.view.at(first), block.data,
                static_cast<size_t>(block.numel()) * sizeof(float));
  });
  return logits;
}

/// -ln softmax(logits[row])[token], in double.
inline double nll(const TensorView& logits, int64_t row, int32_t token) {
  const int64_t vocab = logits.size(1);
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v) sum += std::exp(value_at(logits, row * vocab + v));
  return std::log(sum) - value_at(logits, row * vocab + token);
}

}  // namespace kvlab::test
