#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "eval/models/dense_attention.h"
#include "eval/models/encoder_decoder_model.h"
#include "eval/models/roles.h"

namespace kvlab {
namespace {

std::vector<int32_t> counted(int64_t n) {
  std::vector<int32_t> positions(static_cast<size_t>(n));
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

/// Shows every site's rows to `tap`, then attends: self sites over the pass, cross sites over the
/// source.
class TappedCrossAttention final : public Attention {
 public:
  TappedCrossAttention(const EncoderDecoder& network, const ModelShape& shape, const RowMap& rows,
                       const Tensor& encoded, const std::function<void(const Tap&)>& tap)
      : network_(network), shape_(shape), rows_(rows), encoded_(encoded), tap_(tap) {}

  Needs needs(int) const override { return kAll; }

  void attend(const Append& given, TensorView queries, TensorView out) override {
    const Layer& site = shape_.layers[static_cast<size_t>(given.layer)];
    const auto read = [&](const Append& rows) { show_and_read(site, rows, queries, out); };
    if (site.kind == Layer::Kind::cross)
      network_.with_source_rows(given.layer, encoded_, kAll, read);
    else
      read(given);
  }

 private:
  static constexpr Needs kAll = Needs::hidden | Needs::keys_pre_rope | Needs::keys | Needs::values;

  void show_and_read(const Layer& site, const Append& rows, TensorView queries, TensorView out) {
    tap_({.layer = rows.layer,
          .hidden = rows.hidden,
          .keys_pre_rope = rows.keys_pre_rope,
          .values = rows.values,
          .queries = queries});
    dense_attention({.shape = &site,
                     .positions = rows_.positions,
                     .queries = queries,
                     .keys = rows.keys,
                     .values = rows.values,
                     .distance_bias = network_.distance_bias(),
                     .out = out});
  }

  const EncoderDecoder& network_;
  const ModelShape& shape_;
  RowMap rows_;
  const Tensor& encoded_;
  const std::function<void(const Tap&)>& tap_;
};

class EncoderDecoderAccess final : public ModelAccess {
 public:
  EncoderDecoderAccess(std::shared_ptr<const EncoderDecoder> network, ModelShape shape)
      : network_(std::move(network)), shape_(std::move(shape)) {}

  const ModelShape& shape() const override { return shape_; }

  TensorView weight(std::string_view role, int layer) const override {
    const EncoderDecoderWeights& weights = network_->weights();
    if (role == "embedding") return weights.embedding.view;
    if (role == "head") return (weights.head.view ? weights.head : weights.embedding).view;
    KVLAB_REQUIRE(layer >= 0 && layer < std::ssize(shape_.layers), "E_LAYER", shape_.architecture,
                  ": layer ", layer, " is outside 0..", shape_.layers.size() - 1);
    const CrossBlock& block = weights.decoder[static_cast<size_t>(layer / 2)];
    const AttentionWeights& site = layer == cross_site(layer / 2) ? block.cross : block.self;
    return weight_of(site, role, shape_.architecture);
  }

  /// The first half of the tokens is the source, the rest is what the decoder is fed.
  void visit(std::span<const int32_t> tokens,
             const std::function<void(const Tap&)>& tap) const override {
    KVLAB_REQUIRE(network_->config().reads == EncoderInput::token_ids, "E_UNSUPPORTED",
                  shape_.architecture, ": its encoder reads features of audio, so tokens alone ",
                  "do not run it; no offline step can look at its activations");
    KVLAB_REQUIRE(tokens.size() >= 2, "E_SHAPE", shape_.architecture, ": ", tokens.size(),
                  " tokens cannot be both source and target; give at least 2");
    const EncoderDecoder::Source source{.token_ids = tokens.first(tokens.size() / 2)};
    const std::span<const int32_t> target = tokens.subspan(tokens.size() / 2);
    const std::vector<int32_t> positions = counted(std::ssize(target));
    const std::array<SeqId, 1> sequence{};
    const std::array<int32_t, 2> indptr{0, static_cast<int32_t>(target.size())};
    const ForwardInput input{
        .rows = {.sequences = sequence, .indptr = indptr, .positions = positions},
        .token_ids = target};
    network_->check(source);
    network_->check(input);
    const Tensor encoded = network_->encode(source);
    TappedCrossAttention attention(*network_, shape_, input.rows, encoded, tap);
    network_->run(input, attention, {});
  }

  double loss(std::span<const int32_t>, const Attention&) override {
    fail("E_UNSUPPORTED", shape_.architecture,
         ": no gradients are computed of encoder-decoder models");
  }

 private:
  std::shared_ptr<const EncoderDecoder> network_;
  ModelShape shape_;
};

}  // namespace

std::unique_ptr<ModelAccess> make_encoder_decoder_access(
    std::shared_ptr<const EncoderDecoder> network, ModelShape shape) {
  return std::make_unique<EncoderDecoderAccess>(std::move(network), std::move(shape));
}

}  // namespace kvlab
