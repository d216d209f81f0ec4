#include "eval/footprint.h"

#include "core/error.h"

namespace kvlab {

void check_bytes(const Bytes& total, const std::vector<Bytes>& layers, int64_t page) {
  const auto compare = [&](const char* what, int64_t Bytes::* field) {
    int64_t sum = 0;
    for (const Bytes& layer : layers) sum += layer.*field;
    KVLAB_REQUIRE(sum == total.*field, "E_BYTES_MISMATCH", "cache: its ", layers.size(),
                  " layers hold ", sum, " bytes of ", what, " together, the cache reports ",
                  total.*field, "; no compression ratio is printed from such counts");
  };
  compare("payload", &Bytes::payload);
  compare("metadata", &Bytes::metadata);
  compare("residual", &Bytes::residual);
  KVLAB_REQUIRE(total.residual <= total.payload && total.cache_bytes() <= total.committed + page,
                "E_BYTES_MISMATCH", "cache: it reports ", total.cache_bytes(),
                " bytes in use (of the payload ", total.payload, ", ", total.residual,
                " recent), its allocator holds ", total.committed);
}

void check_bytes(const Cache& cache) {
  std::vector<Bytes> layers;
  for (size_t i = 0; i < cache.shape().layers.size(); ++i) {
    layers.push_back(cache.bytes(static_cast<int>(i)));
  }
  check_bytes(cache.bytes(), layers, 4096);
}

Footprint footprint(const Cache& cache, int64_t tokens, Dtype run_dtype) {
  const Bytes total = cache.bytes();
  Footprint print{.tokens = tokens,
                  .payload = total.payload,
                  .metadata = total.metadata,
                  .residual = total.residual,
                  .state = total.state,
                  .committed = total.committed,
                  .scratch = total.scratch};
  print.dense = dense_bytes_per_token(cache.shape()) * tokens;
  print.dense_run = print.dense / 2 * size_of(run_dtype);
  return print;
}

}  // namespace kvlab
