#include "eval/models/encoder_decoder_model.h"

#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "eval/models/cached_pass.h"

namespace kvlab {
namespace {

class EncoderDecoderModel final : public Model {
 public:
  explicit EncoderDecoderModel(EncoderDecoderNetwork network)
      : shape_(shape_of(network.config)),
        network_(std::make_shared<const EncoderDecoder>(std::move(network.config),
                                                        std::move(network.weights))) {
    shape_.fingerprint = std::move(network.fingerprint);
  }

  const ModelShape& shape() const override { return shape_; }
  Dtype dtype() const override { return network_->dtype(); }
  int64_t weight_bytes() const override { return network_->weight_bytes(); }
  std::vector<int32_t> end_tokens() const override { return network_->config().end_tokens; }
  int32_t begin_token() const override { return network_->config().begin_token; }
  bool has_encoder() const override { return true; }

  void encode(Cache& cache, const EncoderPass& pass) override {
    check_identity(cache, shape_);
    const EncoderDecoder::Source source{.token_ids = pass.token_ids, .features = pass.features};
    network_->check(source);
    const Tensor encoded = network_->encode(source);
    std::vector<int32_t> positions(static_cast<size_t>(encoded.view.size(0)));
    std::iota(positions.begin(), positions.end(), 0);
    const std::array<int32_t, 2> indptr{0, static_cast<int32_t>(positions.size())};
    const RowMap rows{.sequences = {&pass.sequence, 1}, .indptr = indptr, .positions = positions};
    const Chunk chunk{
        .rows = rows, .token_ids = pass.token_ids, .read = pass.read, .encoder = true};
    in_chunk(cache, chunk, ChunkEnd::prompt, [&] { append_encoded(cache, chunk, encoded); });
  }

  void forward(Cache& cache, const Pass& pass, const TakeLogits& take) override {
    check_identity(cache, shape_);
    const ForwardInput input{.rows = pass.rows, .token_ids = pass.token_ids, .wanted = pass.wanted};
    network_->check(input);
    const Chunk chunk{.rows = pass.rows, .token_ids = pass.token_ids, .read = pass.read};
    in_chunk(cache, chunk, pass.end, [&] {
      CacheAttention attention(cache, pass.rows, network_->distance_bias());
      network_->run(input, attention, take);
    });
  }

  std::unique_ptr<ModelAccess> access() override {
    return make_encoder_decoder_access(network_, shape_);
  }

 private:
  /// Every cross layer makes its own rows of the one output.
  void append_encoded(Cache& cache, const Chunk& chunk, const Tensor& encoded) const {
    for (int site = 0; site < static_cast<int>(shape_.layers.size()); ++site) {
      if (shape_.layers[static_cast<size_t>(site)].kind != Layer::Kind::cross) continue;
      const Needs needs = cache.needs(site, chunk.rows.size());
      network_->with_source_rows(site, encoded, needs, [&](const Append& rows) {
        Append given = rows;
        given.rows = chunk.rows;
        if (has(needs, Needs::token_ids)) given.token_ids = chunk.token_ids;
        cache.append(given);
      });
    }
  }

  ModelShape shape_;
  std::shared_ptr<const EncoderDecoder> network_;
};

}  // namespace

ModelOutline outline_of(const EncoderDecoderConfig& config) {
  return {
      .shape = shape_of(config), .begin_token = config.begin_token, .encoder_input = config.reads};
}

std::unique_ptr<Model> make_encoder_decoder_model(EncoderDecoderNetwork network) {
  return std::make_unique<EncoderDecoderModel>(std::move(network));
}

}  // namespace kvlab
