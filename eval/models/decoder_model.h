#pragma once
// A decoder of the Llama family as a Model: it keeps its keys and values in a Cache.

#include <memory>
#include <string>

#include "eval/model.h"
#include "eval/models/decoder.h"

namespace kvlab {

/// A decoder that is ready to run.
struct Network {
  DecoderConfig config{};
  DecoderWeights weights{};
  std::string fingerprint{};  // of the weights
};

ModelOutline outline_of(const DecoderConfig& config);
std::unique_ptr<Model> make_decoder_model(Network network);

/// What offline steps see of a decoder; keeps it alive.
std::unique_ptr<ModelAccess> make_decoder_access(std::shared_ptr<const Decoder> decoder,
                                                 ModelShape shape);

}  // namespace kvlab
