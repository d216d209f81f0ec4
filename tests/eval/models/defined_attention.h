#pragma once
// A network without a cache: attention from its definition, over the pass itself.

#include <cstring>
#include <functional>

#include "eval/models/decoder.h"
#include "eval/models/dense_attention.h"
#include "eval/models/encoder_decoder.h"
#include "eval/pass_rows.h"
#include "tests/eval/models/values.h"

namespace kvlab::test {

class DefinedAttention : public Attention {
 public:
  /// `shape` must outlive the attention.
  DefinedAttention(const ModelShape& shape, const RowMap& rows, TensorView distance_bias = {})
      : shape_(shape), rows_(rows), distance_bias_(distance_bias) {}

  Needs needs(int) const override { return Needs::keys | Needs::values; }

  void attend(const Append& given, TensorView queries, TensorView out) override {
    dense_attention({.shape = &shape_.layers[static_cast<size_t>(given.layer)],
                     .positions = rows_.positions,
                     .queries = queries,
                     .keys = given.keys,
                     .values = given.values,
                     .distance_bias = distance_bias_,
                     .out = out});
  }

 private:
  const ModelShape& shape_;
  RowMap rows_;
  TensorView distance_bias_;
};

/// The same, and cross layers over what `network` makes of `encoded`.
class DefinedCrossAttention final : public DefinedAttention {
 public:
  DefinedCrossAttention(const EncoderDecoder& network, const Tensor& encoded,
                        const ModelShape& shape, const RowMap& rows)
      : DefinedAttention(shape, rows, network.distance_bias()),
        network_(network),
        encoded_(encoded) {}

  void attend(const Append& given, TensorView queries, TensorView out) override {
    if (given.layer != cross_site(given.layer / 2))
      return DefinedAttention::attend(given, queries, out);
    network_.with_source_rows(
        given.layer, encoded_, Needs::keys | Needs::values,
        [&](const Append& rows) { DefinedAttention::attend(rows, queries, out); });
  }

 private:
  const EncoderDecoder& network_;
  const Tensor& encoded_;
};

/// Logits of every token of one sequence, float32 [tokens, V]; attention_of(rows) attends.
template <class Net, class AttentionOf>
Tensor logits_of(const Net& network, int64_t vocab_size, std::span<const int32_t> tokens,
                 const AttentionOf& attention_of) {
  PassRows rows;
  rows.add(SeqId{}, 0, tokens, PassRows::Want::all);
  const Pass pass = rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt);
  const ForwardInput input{.rows = pass.rows, .token_ids = pass.token_ids, .wanted = pass.wanted};
  network.check(input);
  Tensor logits =
      make_tensor("logits", Dtype::f32, {static_cast<int64_t>(tokens.size()), vocab_size});
  auto attention = attention_of(pass.rows);
  network.run(input, attention, [&logits](int64_t first, TensorView block) {
    std::memcpy(logits.view.at(first), block.data,
                static_cast<size_t>(block.numel()) * sizeof(float));
  });
  return logits;
}

inline Tensor defined_logits(const Decoder& decoder, const ModelShape& shape,
                             std::span<const int32_t> tokens) {
  return logits_of(decoder, shape.vocab_size, tokens,
                   [&](const RowMap& rows) { return DefinedAttention(shape, rows); });
}

inline Tensor defined_logits(const EncoderDecoder& network, const ModelShape& shape,
                             const EncoderDecoder::Source& source,
                             std::span<const int32_t> tokens) {
  network.check(source);
  const Tensor encoded = network.encode(source);
  return logits_of(network, shape.vocab_size, tokens, [&](const RowMap& rows) {
    return DefinedCrossAttention(network, encoded, shape, rows);
  });
}

/// -ln softmax(logits[row])[token], in double.
inline double nll(const TensorView& logits, int64_t row, int32_t token) {
  const int64_t vocab = logits.size(1);
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v) sum += std::exp(value_at(logits, row * vocab + v));
  return std::log(sum) - value_at(logits, row * vocab + token);
}

}  // namespace kvlab::test
