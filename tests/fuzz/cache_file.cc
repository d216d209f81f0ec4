// A file of rows of a cache: a sequence that can be read, cut, forked and exported, or one
// sentence.

#include <sys/mman.h>
#include <unistd.h>

#include "core/cache.h"
#include "tests/core/cache/reference_engine.h"
#include "tests/fuzz/fuzz.h"

namespace kvlab {
namespace {

struct Gate final : Select {
  Selection selection(int) const override {
    return {.granularity = Scope::head,
            .flags = true,
            .sinks = 1,
            .recent = 3,
            .columns = {{.name = "note", .dtype = Dtype::i16}},
            .states = {{.name = "sum", .sizes = {2}}}};
  }
};

ModelShape shape() {
  const Layer layer{.num_heads = 2, .num_kv_heads = 2, .head_dim = 2, .value_dim = 3, .scale = 1};
  return {.architecture = "fuzz", .fingerprint = "fuzz", .width = 2, .layers = {layer, layer}};
}

/// In tiles of 8 and 4 behind exact rows; a list per head loses rows where `drops`.
std::unique_ptr<Cache> make_cache(bool drops) {
  static const Registry kRegistry = [] {
    Registry all;
    test::register_test_codecs(all);
    return all;
  }();
  Composition made;
  made.methods.push_back({.name = drops ? "gated" : "tiled"});
  made.capabilities.chunk_separable = true;
  made.encode = Encode{.stream =
                           [](int, const StreamSpec& stream) {
                             return Encoding{.codec = stream.name == "key" ? "mixed8" : "column4"};
                           },
                       .first = 1,
                       .recent = 2};
  if (drops) made.selects.push_back(std::make_shared<Gate>());
  return std::make_unique<Cache>(
      shape(), std::move(made), kRegistry,
      Where{.engine = std::make_shared<test::ReferenceEngine>(), .page_tokens = 8});
}

/// One more token.
void step(Cache& cache, SeqId id) {
  const int32_t indptr[] = {0, 1}, position[] = {static_cast<int32_t>(cache.tokens_seen(id))};
  const RowMap rows{{&id, 1}, indptr, position};
  const float keys[4] = {1, 2, 3, 4}, values[6] = {1, 2, 3, 4, 5, 6};
  float out[6], lse[2];
  cache.begin_chunk({.rows = rows, .read = ReadPolicy::masked});
  for (int layer = 0; layer < 2; ++layer) {
    cache.append({.layer = layer,
                  .rows = rows,
                  .keys = dense_view(keys, Dtype::f32, {1, 2, 2}),
                  .values = dense_view(values, Dtype::f32, {1, 2, 3})});
    cache.attend({.layer = layer,
                  .rows = rows,
                  .queries = dense_view(keys, Dtype::f32, {1, 2, 2}),
                  .out = dense_view(out, Dtype::f32, {1, 2, 3}),
                  .lse_ln = dense_view(lse, Dtype::f32, {1, 2})});
  }
  cache.end_chunk(ChunkEnd::step);
}

/// A file in memory, under a name.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("rows", 0)) { fuzz::require(fd_ >= 0, "there is memory"); }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string write(std::string_view text) const {
    const bool written = ftruncate(fd_, 0) == 0 && pwrite(fd_, text.data(), text.size(), 0) ==
                                                       static_cast<ssize_t>(text.size());
    fuzz::require(written, "there is memory");
    return "/proc/self/fd/" + std::to_string(fd_);
  }

 private:
  int fd_;
};

void try_on(Cache& cache, const std::string& path) {
  const Bytes before = cache.bytes();
  SeqId id{};
  const bool loaded =
      fuzz::accepts({"E_FORMAT", "E_IDENTITY", "E_FILE", "E_FULL"}, [&] { id = cache.load(path); });
  Bytes after = cache.bytes();
  if (!loaded) {
    fuzz::require(after == before, "a refusal changes nothing");
    return;
  }
  const SeqId child = cache.fork(id);
  const int64_t seen = cache.tokens_seen(id);
  if (seen > 0)
    fuzz::accepts({"E_UNSUPPORTED"}, [&] {
      const Rows rows = cache.export_rows(id, {0, seen});
      const SeqId copy = cache.add_sequence();
      cache.import_rows(copy, rows, 0);
      step(cache, copy);
      cache.drop(copy);
    });
  if (seen < kForever - 20) {
    for (int i = 0; i < 12; ++i) step(cache, id);
    for (int layer = 0; layer < 2; ++layer)
      for (int list = 0; list < std::ssize(cache.live_rows(layer, id)); ++list) {
        const std::vector<int32_t> held = cache.positions(layer, id, list);
        fuzz::require(std::ranges::is_sorted(held), "positions rise");
      }
  }
  fuzz::accepts({"E_TRUNCATE"}, [&] { cache.truncate(id, seen / 2); });
  cache.drop(id);
  cache.drop(child);
  fuzz::require(cache.bytes().cache_bytes() == 0, "what was loaded leaves again");
}

}  // namespace
}  // namespace kvlab

void kvlab::fuzz::target(std::string_view text) {
  static const MemoryFile kFile;
  const std::string path = kFile.write(text);
  for (const bool drops : {false, true}) try_on(*make_cache(drops), path);
}
