#pragma once
// A runnable network that keeps its keys and values in a Cache.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/cache.h"
#include "core/json.h"
#include "core/model_access.h"
#include "core/model_shape.h"

namespace kvlab {

/// One forward pass over rows of one or many sequences.
struct Pass {
  RowMap rows{};
  std::span<const int32_t> token_ids{};  // [rows.size()], each in [0, V)
  ReadPolicy read = ReadPolicy::raw_chunk;
  ChunkEnd end = ChunkEnd::step;
  std::span<const int32_t> wanted{};  // rows whose logits are wanted, ascending
};

/// What an encoder reads: nothing (there is none), tokens of the model's vocabulary, or features.
enum class EncoderInput : u8 { none, token_ids, features };

/// One sequence's source, which the encoder reads at once.
struct EncoderPass {
  SeqId sequence{};
  std::span<const int32_t> token_ids{};  // of models that read tokens, each in [0, V)
  TensorView features{};                 // of models that do not: float32 [mel bins, frames]
  ReadPolicy read = ReadPolicy::raw_chunk;
};

/// Takes logits, float32 [n, V], of the wanted rows [first, first + n): blocks in rising order,
/// each of at most kLogitsRows rows, so that a long pass never holds all its logits.  A block is
/// valid during the call and may be written to.
using TakeLogits = std::function<void(int64_t first, TensorView block)>;
inline constexpr int64_t kLogitsRows = 64;

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelShape& shape() const = 0;
  virtual Dtype dtype() const = 0;  // of activations: the cache's run dtype
  virtual int64_t weight_bytes() const = 0;
  virtual std::vector<int32_t> end_tokens() const { return {}; }
  virtual int32_t begin_token() const { return -1; }  // BOS, -1: none
  /// begin_chunk, append and attend of every layer, logits of the wanted rows, end_chunk; the chunk
  /// is cancelled when anything throws.  E_POSITION for a token id outside the vocabulary.
  virtual void forward(Cache& cache, const Pass& pass, const TakeLogits& take) = 0;
  /// A model with an encoder has cross layers, and wants encode() once before a sequence's first
  /// forward().
  virtual bool has_encoder() const { return false; }
  /// Runs the encoder and appends to every cross layer what the cache needs of its output, as one
  /// chunk of encoder tokens (positions from 0), cancelled when anything throws.  E_UNSUPPORTED:
  /// there is no encoder, or it reads the other kind of source.
  virtual void encode(Cache& cache, const EncoderPass& pass);
  /// What offline steps see; E_UNSUPPORTED where the model has none.
  virtual std::unique_ptr<ModelAccess> access() = 0;
};

/// What is known of a model before its weights are read.
struct ModelOutline {
  ModelShape shape{};
  int32_t begin_token = -1;  // Model::begin_token
  EncoderInput encoder_input = EncoderInput::none;
};

/// {"builtin": "recall2", ...} or {"path": DIR, "dtype": "float32"|"bfloat16"|"float16"|"auto"}.
/// All but load_model read the config alone, so that much is checked before weights are read.
ModelOutline outline_of(const Json& spec);
ModelShape shape_of(const Json& spec);
int32_t begin_token_of(const Json& spec);  // Model::begin_token
std::unique_ptr<Model> load_model(const Json& spec);

/// All wanted logits of a pass at once, float32 [wanted, V].
Tensor forward_logits(Model& model, Cache& cache, const Pass& pass);

}  // namespace kvlab
