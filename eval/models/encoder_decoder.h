#pragma once
// The forward passes of T5 and Whisper, with the decoder's attention left to somebody else.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/artifact.h"
#include "core/chunk.h"
#include "eval/model.h"
#include "eval/models/encoder_decoder_config.h"
#include "eval/models/forward.h"
#include "eval/models/linear.h"

namespace kvlab {

struct NormWeights {
  Tensor weight{}, bias{};  // [D]; an RMS norm has no bias
};

/// Norm of the input, projections.
struct AttentionWeights {
  NormWeights norm{};
  Linear query{}, key{}, value{}, output{};
};

struct MlpWeights {
  NormWeights norm{};
  Linear gate{}, up{}, down{};  // gate of gated ones
};

struct EncoderBlock {
  AttentionWeights attention{};
  MlpWeights mlp{};
};

struct CrossBlock {
  AttentionWeights self{}, cross{};
  MlpWeights mlp{};
};

/// All of one dtype, the run dtype; but T5's `down` in a float16 run is float32.
struct EncoderDecoderWeights {
  Tensor embedding{};                               // [V, D]
  Tensor head{};                                    // [V, D]; absent when tied
  Tensor encoder_distances{}, decoder_distances{};  // [buckets, H], of T5
  Tensor encoder_positions{}, decoder_positions{};  // [positions, D], of Whisper
  Linear conv1{}, conv2{};                          // [D, bins or D, 3], of Whisper
  NormWeights encoder_norm{}, decoder_norm{};       // after the last block
  std::vector<EncoderBlock> encoder{};
  std::vector<CrossBlock> decoder{};
};

class EncoderDecoder {
 public:
  /// The weights fit the config (E_INTERNAL otherwise).
  EncoderDecoder(EncoderDecoderConfig config, EncoderDecoderWeights weights);
  ~EncoderDecoder();
  EncoderDecoder(const EncoderDecoder&) = delete;
  EncoderDecoder& operator=(const EncoderDecoder&) = delete;

  const EncoderDecoderConfig& config() const;
  const EncoderDecoderWeights& weights() const;
  Dtype dtype() const;
  int64_t weight_bytes() const;  // every tensor once

  /// What decoder self-attention adds to its logits by distance: float32 [H, max_distance + 1],
  /// absent where nothing is added.
  TensorView distance_bias() const;

  /// One source, as its config `reads` it.
  struct Source {
    std::span<const int32_t> token_ids{};
    TensorView features{};  // float32 [mel bins, frames]
  };
  /// E_UNSUPPORTED: the other kind of source.  E_SHAPE: none, features of another size, more of
  /// them than there are positions.  E_POSITION: a token id outside the vocabulary.
  void check(const Source& source) const;
  /// The encoder's output after its last norm, [S, D].  `source` has passed check().
  Tensor encode(const Source& source) const;

  /// The fields `needs` of what cross layer `site` stores of the encoder's output; the rows are the
  /// caller's.  Views live until `use` returns.
  void with_source_rows(int site, const Tensor& encoded, Needs needs,
                        const std::function<void(const Append&)>& use) const;

  /// E_POSITION: a token id outside the vocabulary, a position that is not embedded.  E_SHAPE.
  void check(const ForwardInput& input) const;
  /// The decoder.  On cross layers `attention` is given no rows.  `input` has passed check().
  void run(const ForwardInput& input, Attention& attention, const TakeLogits& take) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab
