#include "eval/models/decoder_model.h"

#include <utility>

#include "eval/models/cached_pass.h"

namespace kvlab {
namespace {

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
    check_identity(cache, shape_);
    const ForwardInput input{.rows = pass.rows, .token_ids = pass.token_ids, .wanted = pass.wanted};
    decoder_->check(input);
    const Chunk chunk{.rows = pass.rows, .token_ids = pass.token_ids, .read = pass.read};
    in_chunk(cache, chunk, pass.end, [&] {
      CacheAttention attention(cache, pass.rows);
      decoder_->run(input, attention, take);
    });
  }

  std::unique_ptr<ModelAccess> access() override { return make_decoder_access(decoder_, shape_); }

 private:
  ModelShape shape_;
  std::shared_ptr<const Decoder> decoder_;
};

}  // namespace

ModelOutline outline_of(const DecoderConfig& config) {
  return {.shape = shape_of(config), .begin_token = config.begin_token};
}

std::unique_ptr<Model> make_decoder_model(Network network) {
  return std::make_unique<DecoderModel>(std::move(network));
}

}  // namespace kvlab
