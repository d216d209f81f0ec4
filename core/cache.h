#pragma once
// The one compressed cache.  It holds a batch of sequences; stages say what differs between
// methods. A pass is begin_chunk, per layer append then attend, end_chunk: the same code for one
// token and ten thousand.  What each call needs, changes and promises: core/README.md, "Lifecycle".

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/chunk.h"
#include "core/compose.h"
#include "core/engine.h"
#include "core/model_shape.h"
#include "core/registry.h"
#include "core/types.h"

namespace kvlab {

/// Where a cache lives.
struct Where {
  enum class Addressing : u8 { automatic, paged, contiguous };
  std::shared_ptr<Engine> engine{};               // required
  std::shared_ptr<Engine> other_engine{};         // reachable through Attend::on
  Dtype run_dtype = Dtype::f32;                   // of rows as they come
  Addressing addressing = Addressing::automatic;  // past contiguous where one list drops nothing
  int page_tokens = 64;                           // power of two; raised to the codecs' tiles
  int64_t max_bytes = -1;                         // committed memory at most; E_FULL beyond
  int64_t max_tokens = 1 << 20;                   // per sequence: address space of contiguous lists
  int64_t rollback = 0;         // truncate is exact this far back where rows leave `recent`
  double compact_share = 0.25;  // dead rows of a list before it is compacted
  SplitPolicy split{};
  Level level = Level::automatic;
};

/// cache_bytes() = payload + metadata + state; slack() = committed - cache_bytes(); residual is the
/// part of payload that lies in recent and first rows.  All from what was allocated.
struct Bytes {
  int64_t payload = 0, metadata = 0, residual = 0, state = 0;
  int64_t committed = 0, reserved = 0, scratch = 0, scratch_peak = 0;
  int64_t cache_bytes() const { return payload + metadata + state; }
  int64_t slack() const { return committed - cache_bytes(); }
  bool operator==(const Bytes&) const = default;
};

/// Rows outside a cache: a manifest (JSON, core/cache/parcel.h) and packed tensors.
struct Rows {
  std::string manifest{};
  std::vector<std::pair<std::string, TensorView>> tensors{};
  std::shared_ptr<void> owner{};
};

namespace cache {
struct Impl;
}

class Cache {
 public:
  Cache(const ModelShape& shape, Composition composition, const Registry& registry, Where where);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  SeqId add_sequence();
  SeqId fork(SeqId sequence);
  void drop(SeqId sequence);
  void truncate(SeqId sequence, int64_t positions);
  int64_t tokens_seen(SeqId sequence) const;
  int64_t encoder_tokens_seen(SeqId sequence) const;

  void begin_chunk(const Chunk& chunk);
  Needs needs(int layer, int64_t rows) const;
  void append(const Append& append);
  void attend(const Attend& attend);
  void end_chunk(ChunkEnd end);
  void cancel_chunk();
  bool in_chunk() const;

  /// A recurrent state of the model; written states are kept when the chunk ends.
  TensorView state(SeqId sequence, std::string_view name);

  Bytes bytes(int layer = -1) const;
  /// Bytes of the sequence's rows, shared with forks of it or not.
  int64_t payload(SeqId sequence) const;
  Ran ran(int layer) const;  // of the last attend; waits for the device
  /// Spent in append and end_chunk since the cache was made: projecting, encoding, ranking,
  /// compacting.  Part of the time of every pass.
  double storing_seconds() const;
  /// Spent in attend: planning, kernels, selectors that look on.  A kernel that an engine runs
  /// later is not in it.
  double attending_seconds() const;
  /// Called after every attend, when its output is there; null: nobody.
  void watch(std::function<void(const Attend&)> saw);
  std::vector<int64_t> live_rows(int layer, SeqId sequence) const;  // per list

  Rows export_rows(SeqId sequence, Range positions) const;
  void import_rows(SeqId sequence, const Rows& rows, int64_t at);
  void save(SeqId sequence, const std::filesystem::path& path) const;
  SeqId load(const std::filesystem::path& path);

  /// Decoded keys before RoPE [n, Hkv, d] and values [n, Hkv, dv], float32, of the positions of a
  /// range; rows that were dropped are E_POSITION.
  void materialise(int layer, SeqId sequence, Range positions, TensorView keys_pre_rope,
                   TensorView values) const;
  /// The positions a list still holds, ascending.
  std::vector<int32_t> positions(int layer, SeqId sequence, int list) const;

  /// The memory the next attend of a layer reads: what a prefetcher moves.
  std::vector<std::span<const u8>> read_set(int layer, std::span<const SeqId> sequences) const;
  void prefetch(int layer, std::span<const SeqId> sequences);
  uint64_t version(int layer) const;  // changes when rows move: plans and read sets are stale

  const ModelShape& shape() const;
  const Composition& composition() const;
  /// Model, methods, parameters, artifacts, dtype: what rows must share to be exchanged.
  Json identity() const;

 private:
  std::unique_ptr<cache::Impl> impl_;
};

}  // namespace kvlab
