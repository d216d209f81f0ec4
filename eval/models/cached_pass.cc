#include "eval/models/cached_pass.h"

#include "core/error.h"

namespace kvlab {

void CacheAttention::attend(const Append& given, TensorView queries, TensorView out) {
  const Layer& site = cache_.shape().layers[static_cast<size_t>(given.layer)];
  if (site.kind != Layer::Kind::cross) cache_.append(given);
  Attend attend{.layer = given.layer, .rows = rows_, .queries = queries, .out = out};
  if (site.distance_bias > 0) attend.distance_bias = distance_bias_;
  cache_.attend(attend);
}

void check_identity(const Cache& cache, const ModelShape& shape) {
  KVLAB_REQUIRE(cache.shape().fingerprint == shape.fingerprint, "E_IDENTITY", shape.architecture,
                ": the cache was made for weights ", cache.shape().fingerprint, ", these are ",
                shape.fingerprint, "; make it with this model's shape()");
}

void in_chunk(Cache& cache, const Chunk& chunk, ChunkEnd end, const std::function<void()>& run) {
  cache.begin_chunk(chunk);
  try {
    run();
    cache.end_chunk(end);
  } catch (...) {
    if (cache.in_chunk()) cache.cancel_chunk();
    throw;
  }
}

}  // namespace kvlab
