#pragma once
// The forward pass of the Llama family, with attention left to somebody else.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/artifact.h"
#include "eval/model.h"
#include "eval/models/decoder_config.h"
#include "eval/models/forward.h"
#include "eval/models/linear.h"

namespace kvlab {

struct DecoderBlock {
  Tensor attention_norm{}, mlp_norm{};              // [D]
  Tensor attention_norm_after{}, mlp_norm_after{};  // [D] with norms_after
  Tensor query_norm{}, key_norm{};                  // [d] with qk_norm
  Linear query{}, key{}, value{}, output{};
  Linear gate{}, up{}, down{};
};

/// All of one dtype, the run dtype.
struct DecoderWeights {
  Tensor embedding{};   // [V, D]
  Tensor head{};        // [V, D]; absent when tied
  Tensor final_norm{};  // [D]
  std::vector<DecoderBlock> blocks{};
};

class Decoder {
 public:
  /// The weights fit the config (E_INTERNAL otherwise).
  Decoder(DecoderConfig config, DecoderWeights weights);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  const DecoderConfig& config() const;
  const DecoderWeights& weights() const;
  Dtype dtype() const;
  int64_t weight_bytes() const;  // every tensor once

  using Input = ForwardInput;
  /// E_POSITION: a token id outside the vocabulary, a position the frequencies do not reach.
  void check(const Input& input) const;
  /// One GEMM per projection for the rows of all sequences.  `input` has passed check().
  void run(const Input& input, Attention& attention, const TakeLogits& take) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab
