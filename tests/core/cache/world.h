#pragma once
// A cache and its oracle side by side: every pass goes to both, every answer is compared.

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/cache.h"
#include "tests/core/cache/reference_cache.h"
#include "tests/core/cache/reference_engine.h"

namespace kvlab::test {

/// What a selector of the tests does.
struct SelectorConfig {
  enum class Kind { gate, budget } kind = Kind::gate;
  Scope granularity = Scope::layer;
  int64_t sinks = 0, recent = 1;
  unsigned keep_percent = 50;  // gate: rows that live on
  int64_t budget = 8;          // budget: rows a list keeps
  std::set<ChunkEnd> due{ChunkEnd::prompt, ChunkEnd::step};
};

struct WorldConfig {
  std::vector<Layer> layers{};
  std::string key_codec{}, value_codec{}, recent_codec{};
  int64_t first = 0, recent = 0;
  std::vector<SelectorConfig> selectors{};
  Where where{};
  unsigned salt = 0;  // of flags and scores
  std::string text() const;
};

/// A self layer with `heads` query heads and dims that differ between keys and values.
Layer small_layer(int heads, int kv_heads, int64_t window_left = -1);
/// Anything the cache should be able to do.
WorldConfig random_config(std::mt19937& random);

/// Whether selector `s` keeps a row, and what it thinks of it: from position and place alone.
bool keeps(const WorldConfig& config, int layer, int s, int head, int64_t position);
float score_of(const WorldConfig& config, int layer, int list, int64_t position);

class World {
 public:
  explicit World(const WorldConfig& config, unsigned seed);

  /// One sequence of the world: its id and what the oracle knows of it.
  struct Live {
    SeqId id{};
    std::vector<OracleLayer> layers{};
    int64_t seen = 0;
    int64_t furthest = 0;    // tokens it ever had: how far back rollback reaches
    int64_t last_drop = -1;  // newest position of the last pass that dropped by rank
    bool shares = false;     // forked, or forked from
    int64_t arrived = 0;     // rows encoded before it came here without their exact form
    int64_t exact_from = 0;  // where nothing drops: exact rows below it have left
  };
  struct PassPlan {
    std::vector<size_t> which{};  // into live()
    std::vector<int64_t> lengths{};
    ReadPolicy read = ReadPolicy::raw_chunk;
    ChunkEnd end = ChunkEnd::step;
    int cancel_before = -1;  // layer; layers(): before the end
    std::string text() const;
  };

  // Where there is a budget, what does not fit changes nothing.
  void add();
  void fork(size_t i);
  void drop(size_t i);
  /// Compares every answer; returns all outputs, row-major by layer.  E_FULL: nothing may change.
  std::vector<float> pass(const PassPlan& plan);
  /// Whether it was possible; when it was, answers must go on to agree.
  bool truncate(size_t i, int64_t n);
  /// To a file and back, or out of the cache and into it: another sequence takes the place of i.
  void reload(size_t i, const std::filesystem::path& file);
  void transplant(size_t i);
  /// Positions held, counts and bytes.
  void check_state();

  Cache& cache() { return *cache_; }
  ReferenceEngine& engine() { return *engine_; }
  std::vector<Live>& live() { return live_; }
  const WorldConfig& config() const { return config_; }
  int num_layers() const { return static_cast<int>(shape_.layers.size()); }
  bool drops() const;
  /// Reads a pass may not have: `stored` where rows expire inside it.
  bool may_read_stored(const PassPlan& plan) const;
  const OracleRules& rules(int layer) const { return rules_[static_cast<size_t>(layer)]; }
  Composition composition() const;
  const ModelShape& shape() const { return shape_; }
  const Registry& registry() const { return registry_; }
  std::mt19937& random() { return random_; }
  /// Rows that are the same wherever they are asked for, for laws about chunking.
  bool deterministic_rows = false;

 private:
  int64_t oldest_exact(const Live& one, int64_t encoded_from) const;
  bool fits(const std::function<void()>& act);
  float number(int layer, int what, int64_t position, int64_t i);
  void rank(Live& one, ChunkEnd end, int64_t newest);
  void check_bytes();
  void check_materialised(const Live& one, int layer);
  int64_t least_bytes() const;

  WorldConfig config_;
  ModelShape shape_{};
  Registry registry_{};
  std::vector<OracleRules> rules_{};
  std::shared_ptr<ReferenceEngine> engine_;
  std::unique_ptr<Cache> cache_;
  std::vector<Live> live_{};
  std::mt19937 random_;
};

}  // namespace kvlab::test
