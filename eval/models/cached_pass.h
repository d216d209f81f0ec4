#pragma once
// A network's pass on a cache: its attention, and a chunk that happens whole or not at all.

#include <functional>

#include "core/cache.h"
#include "eval/models/forward.h"

namespace kvlab {

/// Appends what self layers give and attends; cross layers read what an encoder pass has appended.
class CacheAttention final : public Attention {
 public:
  /// distance_bias: of all layers that have one.
  CacheAttention(Cache& cache, const RowMap& rows, TensorView distance_bias = {})
      : cache_(cache), rows_(rows), distance_bias_(distance_bias) {}

  Needs needs(int layer) const override { return cache_.needs(layer, rows_.size()); }
  void attend(const Append& given, TensorView queries, TensorView out) override;

 private:
  Cache& cache_;
  RowMap rows_;
  TensorView distance_bias_;
};

/// E_IDENTITY: the cache was made for other weights.
void check_identity(const Cache& cache, const ModelShape& shape);

/// begin_chunk, `run`, end_chunk; the chunk is cancelled when anything throws.
void in_chunk(Cache& cache, const Chunk& chunk, ChunkEnd end, const std::function<void()>& run);

}  // namespace kvlab
