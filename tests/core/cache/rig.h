#pragma once
// A cache of any composition with the reference engine, and passes of made-up rows through it.

#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "core/cache.h"
#include "tests/core/cache/reference_engine.h"

namespace kvlab::test {

struct RigConfig {
  std::vector<Layer> layers{};
  Composition composition{};
  Where where{};
  std::vector<StateSpec> states{};
};

/// A row feature in [-1, 1], the same wherever it is asked for.
inline float made_up(int64_t layer, int64_t what, int64_t position, int64_t i) {
  uint64_t h = static_cast<uint64_t>(((layer * 8 + what) * 100003 + position) * 1009 + i + 1);
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return static_cast<float>(h >> 40) / (1 << 23) - 1;
}

class Rig {
 public:
  explicit Rig(RigConfig config) {
    register_test_codecs(registry);
    shape.architecture = "rig", shape.fingerprint = "rig", shape.width = 4;
    shape.layers = std::move(config.layers);
    shape.states = std::move(config.states);
    config.where.engine = engine;
    cache = std::make_unique<Cache>(shape, std::move(config.composition), registry, config.where);
  }

  /// The next n tokens of one sequence through all layers; outputs, layer by layer.
  std::vector<float> pass(SeqId id, int64_t n, ReadPolicy read = ReadPolicy::masked,
                          ChunkEnd end = ChunkEnd::chunk) {
    begin(id, n, read);
    std::vector<float> out;
    for (int layer = 0; layer < layers(); ++layer) {
      append(layer);
      const std::vector<float> mine = attend(layer);
      out.insert(out.end(), mine.begin(), mine.end());
    }
    cache->end_chunk(end);
    return out;
  }

  /// The same without a query.
  void store(SeqId id, int64_t n, ReadPolicy read = ReadPolicy::masked,
             ChunkEnd end = ChunkEnd::chunk) {
    begin(id, n, read);
    for (int layer = 0; layer < layers(); ++layer) append(layer);
    cache->end_chunk(end);
  }

  void begin(SeqId id, int64_t n, ReadPolicy read = ReadPolicy::masked) {
    positions_.resize(static_cast<size_t>(n));
    std::iota(positions_.begin(), positions_.end(), static_cast<int32_t>(cache->tokens_seen(id)));
    open(id, {.read = read});
  }
  /// Of positions chosen by hand, for passes that replace.
  void begin_at(SeqId id, std::vector<int32_t> positions, Chunk chunk) {
    positions_ = std::move(positions);
    open(id, chunk);
  }

  /// salt: other rows at the same positions.
  void append(int layer, int64_t salt = 0) {
    const Layer& site = shape.layers[static_cast<size_t>(layer)];
    const auto keys = fill(layer, 0 + 3 * salt, site.num_kv_heads * site.head_dim);
    const auto values = fill(layer, 1 + 3 * salt, site.num_kv_heads * site.value_dim);
    Append given{.layer = layer,
                 .rows = rows(),
                 .values = dense_view(values.data(), Dtype::f32,
                                      {count(), site.num_kv_heads, site.value_dim})};
    const bool before_rope = has(cache->needs(layer, count()), Needs::keys_pre_rope);
    (before_rope ? given.keys_pre_rope : given.keys) =
        dense_view(keys.data(), Dtype::f32, {count(), site.num_kv_heads, site.head_dim});
    cache->append(given);
  }

  std::vector<float> attend(int layer) {
    const Layer& site = shape.layers[static_cast<size_t>(layer)];
    const auto queries = fill(layer, 2, site.num_heads * site.head_dim);
    const auto bias = distance_bias(layer);
    std::vector<float> out(static_cast<size_t>(count() * site.num_heads * site.value_dim));
    Attend given{
        .layer = layer,
        .rows = rows(),
        .queries = dense_view(queries.data(), Dtype::f32, {count(), site.num_heads, site.head_dim}),
        .out = dense_view(out.data(), Dtype::f32, {count(), site.num_heads, site.value_dim})};
    if (site.distance_bias > 0)
      given.distance_bias =
          dense_view(bias.data(), Dtype::f32, {site.num_heads, site.distance_bias});
    cache->attend(given);
    return out;
  }

  /// [H, entries] of a layer.
  std::vector<float> distance_bias(int layer) const {
    const Layer& site = shape.layers[static_cast<size_t>(layer)];
    std::vector<float> out;
    for (int h = 0; h < site.num_heads; ++h)
      for (int i = 0; i < site.distance_bias; ++i) out.push_back(3 * made_up(layer, 6, h, i));
    return out;
  }

  RowMap rows() const { return {{&id_, 1}, indptr_, positions_}; }
  int64_t count() const { return std::ssize(positions_); }
  int layers() const { return static_cast<int>(shape.layers.size()); }

  Registry registry{};
  ModelShape shape{};
  std::shared_ptr<ReferenceEngine> engine = std::make_shared<ReferenceEngine>();
  std::unique_ptr<Cache> cache{};

 private:
  void open(SeqId id, Chunk chunk) {
    id_ = id;
    indptr_ = {0, static_cast<int32_t>(positions_.size())};
    chunk.rows = rows();
    cache->begin_chunk(chunk);
  }
  std::vector<float> fill(int layer, int64_t what, int64_t width) const {
    std::vector<float> out;
    for (const int32_t p : positions_)
      for (int64_t i = 0; i < width; ++i) out.push_back(made_up(layer, what, p, i));
    return out;
  }
  SeqId id_{};
  std::vector<int32_t> indptr_{}, positions_{};
};

/// Every stream coded one way.
inline Encode encoded_as(const std::string& codec, int64_t recent = 0, int64_t first = 0) {
  return {.stream = [codec](int, const StreamSpec&) { return Encoding{.codec = codec}; },
          .first = first,
          .recent = recent};
}

inline Layer plain_layer(int heads = 2, int kv_heads = 2, int head_dim = 4, int value_dim = 4) {
  return {.num_heads = heads,
          .num_kv_heads = kv_heads,
          .head_dim = head_dim,
          .value_dim = value_dim,
          .scale = 0.5};
}

}  // namespace kvlab::test
