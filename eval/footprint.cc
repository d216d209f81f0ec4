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

int64_t dense_bytes_in(Dtype run_dtype, const ModelShape& shape, int64_t tokens,
                       int64_t encoder_tokens) {
  return dense_bytes(shape, tokens, encoder_tokens) / size_of(Dtype::f16) * size_of(run_dtype);
}

Footprint footprint(const Cache& cache, SeqId sequence, Dtype run_dtype) {
  const int64_t tokens = cache.tokens_seen(sequence);
  const int64_t encoder_tokens = cache.encoder_tokens_seen(sequence);
  const Bytes total = cache.bytes();
  Footprint print{.tokens = tokens,
                  .payload = total.payload,
                  .metadata = total.metadata,
                  .residual = total.residual,
                  .state = total.state,
                  .committed = total.committed,
                  .scratch = total.scratch};
  print.dense = dense_bytes(cache.shape(), tokens, encoder_tokens);
  print.dense_run = dense_bytes_in(run_dtype, cache.shape(), tokens, encoder_tokens);
  return print;
}

}  // namespace kvlab
