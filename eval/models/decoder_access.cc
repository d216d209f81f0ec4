#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "eval/autograd/sequence_loss.h"
#include "eval/models/decoder_model.h"
#include "eval/models/dense_attention.h"
#include "eval/models/roles.h"

namespace kvlab {
namespace {

/// Shows every layer's rows to `tap`, then attends over the pass itself.
class TappedAttention final : public Attention {
 public:
  TappedAttention(const ModelShape& shape, const RowMap& rows,
                  const std::function<void(const Tap&)>& tap)
      : shape_(shape), rows_(rows), tap_(tap) {}

  Needs needs(int) const override {
    return Needs::hidden | Needs::keys_pre_rope | Needs::keys | Needs::values;
  }

  void attend(const Append& given, TensorView queries, TensorView out) override {
    tap_({.layer = given.layer,
          .hidden = given.hidden,
          .keys_pre_rope = given.keys_pre_rope,
          .values = given.values,
          .queries = queries});
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
  const std::function<void(const Tap&)>& tap_;
};

class DecoderAccess final : public ModelAccess {
 public:
  DecoderAccess(std::shared_ptr<const Decoder> decoder, ModelShape shape)
      : decoder_(std::move(decoder)), shape_(std::move(shape)) {}

  const ModelShape& shape() const override { return shape_; }

  TensorView weight(std::string_view role, int layer) const override {
    const DecoderWeights& weights = decoder_->weights();
    if (role == "embedding") return weights.embedding.view;
    if (role == "head") return (weights.head.view ? weights.head : weights.embedding).view;
    KVLAB_REQUIRE(layer >= 0 && layer < static_cast<int>(weights.blocks.size()), "E_LAYER",
                  shape_.architecture, ": layer ", layer, " is outside 0..",
                  weights.blocks.size() - 1);
    return weight_of(weights.blocks[static_cast<size_t>(layer)], role, shape_.architecture);
  }

  void visit(std::span<const int32_t> tokens,
             const std::function<void(const Tap&)>& tap) const override {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    const std::array<SeqId, 1> sequence{};
    const std::array<int32_t, 2> indptr{0, static_cast<int32_t>(tokens.size())};
    const Decoder::Input input{
        .rows = {.sequences = sequence, .indptr = indptr, .positions = positions},
        .token_ids = tokens};
    decoder_->check(input);
    TappedAttention attention(shape_, input.rows, tap);
    decoder_->run(input, attention, {});
  }

  double loss(std::span<const int32_t> tokens, const Attention& attention) override {
    return sequence_loss(*decoder_, tokens, attention);
  }

 private:
  std::shared_ptr<const Decoder> decoder_;
  ModelShape shape_;
};

}  // namespace

std::unique_ptr<ModelAccess> make_decoder_access(std::shared_ptr<const Decoder> decoder,
                                                 ModelShape shape) {
  return std::make_unique<DecoderAccess>(std::move(decoder), std::move(shape));
}

}  // namespace kvlab
