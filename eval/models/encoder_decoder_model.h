#pragma once
// T5 or Whisper as a Model: keys and values of both attentions are kept in a Cache.

#include <memory>
#include <string>

#include "eval/model.h"
#include "eval/models/encoder_decoder.h"
#include "eval/models/weight_reader.h"

namespace kvlab {

/// An encoder-decoder that is ready to run.
struct EncoderDecoderNetwork {
  EncoderDecoderConfig config{};
  EncoderDecoderWeights weights{};
  std::string fingerprint{};  // of the weights
};

ModelOutline outline_of(const EncoderDecoderConfig& config);
std::unique_ptr<Model> make_encoder_decoder_model(EncoderDecoderNetwork network);

/// What offline steps see; keeps the network alive.
std::unique_ptr<ModelAccess> make_encoder_decoder_access(
    std::shared_ptr<const EncoderDecoder> network, ModelShape shape);

/// The weights under the names that transformers gives them.
EncoderDecoderWeights read_encoder_decoder_weights(WeightReader& reader,
                                                   const EncoderDecoderConfig& config);
/// The tensor whose dtype is the run dtype where nobody states one.
std::string embedding_name(const EncoderDecoderConfig& config);

}  // namespace kvlab
