#include "eval/models/decoder_model.h"

#include <utility>

#include "core/error.h"

namespace kvlab {
namespace {

class CacheAttention final : public Attention {
 public:
  CacheAttention(Cache& cache, const RowMap& rows) : cache_(cache), rows_(rows) {}

  Needs needs(int layer) const override { return cache_.needs(layer, rows_.size()); }

  void attend(const Append& given, TensorView queries, TensorView out) override {
    cache_.append(given);
    cache_.attend({.layer = given.layer, .rows = rows_, .queries = queries, .out = out});
  }

 private:
  Cache& cache_;
  RowMap rows_;
};

class DecoderModel final : public Model {
 public:
  explicit DecoderModel(Network network)
      : shape_(shape_of(network.config)),
        decoder_(std::make_shared<const Decoder>(std::move(network.config),
                                                 std::move(network.weights))) {
    shape_.fingerprint = std::move(network.fingerprint);
  }

  const ModelShape& shape() const override { return shape_; }
  Dtype dtype() const override { return decoder_->dtype(); }
  int64_t weight_bytes() const override { return decoder_->weight_bytes(); }
  std::vector<int32_t> end_tokens() const override { return decoder_->config().end_tokens; }
  int32_t begin_token() const override { return decoder_->config().begin_token; }

  void forward(Cache& cache, const Pass& pass, const TakeLogits& take) override {
    KVLAB_REQUIRE(cache.shape().fingerprint == shape_.fingerprint, "E_IDENTITY",
                  shape_.architecture, ": the cache was made for weights ",
                  cache.shape().fingerprint, ", these are ", shape_.fingerprint,
                  "; make it with this model's shape()");
    const Decoder::Input input{
        .rows = pass.rows, .token_ids = pass.token_ids, .wanted = pass.wanted};
    decoder_->check(input);
    cache.begin_chunk({.rows = pass.rows, .token_ids = pass.token_ids, .read = pass.read});
    try {
      CacheAttention attention(cache, pass.rows);
      decoder_->run(input, attention, take);
      cache.end_chunk(pass.end);
    } catch (...) {
      if (cache.in_chunk()) cache.cancel_chunk();
      throw;
    }
  }

  std::unique_ptr<ModelAccess> access() override { return make_decoder_access(decoder_, shape_); }

 private:
  ModelShape shape_;
  std::shared_ptr<const Decoder> decoder_;
};

}  // namespace

std::unique_ptr<Model> make_decoder_model(Network network) {
  return std::make_unique<DecoderModel>(std::move(network));
}

}  // namespace kvlab
