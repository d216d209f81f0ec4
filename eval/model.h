#pragma once
// A runnable network that keeps its keys and values in a Cache.

#include <cstdint>
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
  std::span<const int32_t> wanted{};  // rows whose logits are returned, ascending
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelShape& shape() const = 0;
  virtual Dtype dtype() const = 0;  // of activations: the cache's run dtype
  virtual int64_t weight_bytes() const = 0;
  virtual std::vector<int32_t> end_tokens() const { return {}; }
  virtual int32_t begin_token() const { return -1; }  // BOS, -1: none
  /// begin_chunk, append and attend of every layer, end_chunk; the chunk is cancelled when anything
  /// throws.  Returns float32 [wanted, V].  E_POSITION for a token id outside the vocabulary.
  virtual Tensor forward(Cache& cache, const Pass& pass) = 0;
  /// What offline steps see; E_UNSUPPORTED where the model has none.
  virtual std::unique_ptr<ModelAccess> access() = 0;
};

/// {"builtin": "recall2", ...} or {"path": DIR, "dtype": "float32"|"bfloat16"|"float16"|"auto"}.
/// Only the config is read by shape_of, so that methods are checked before weights are.
ModelShape shape_of(const Json& spec);
std::unique_ptr<Model> load_model(const Json& spec);

}  // namespace kvlab
