#pragma once
// A network of random projections and a text of random hidden rows: what every layer would hand to
// a cache for n tokens, the pass over a Cache, what an offline step is given of it, and the plain
// definition of attention to hold the result against.

#include <functional>
#include <memory>
#include <vector>

#include "core/artifact.h"
#include "core/cache.h"
#include "core/compose.h"
#include "core/model_access.h"

namespace kvlab::test {

struct NetworkConfig {
  int layers = 2, heads = 4, kv_heads = 2, head_dim = 8, value_dim = 8, width = 16;
  int64_t tokens = 24, window_left = -1;
  Rope::Style rope = Rope::Style::half_split;
  bool key_bias = false, value_bias = false;
  unsigned seed = 1;            // of the weights: equal ones are one model whatever the text
  unsigned text = 1;            // seed of the hidden rows and the ids
  int64_t differs_from = -1;    // hidden rows from this position on are others than those of `text`
  bool reverses_heads = false;  // hands over the query heads of a kv head in reverse order
};

/// Of all layers, [tokens, H, dv] each.
using Outputs = std::vector<std::vector<float>>;

class Network {
 public:
  explicit Network(const NetworkConfig& config);

  const ModelShape& shape() const { return shape_; }
  int64_t tokens() const { return config_.tokens; }
  /// Of one token, row-major over heads; keys and queries are not rotated.
  const float* hidden(int layer, int64_t position) const;
  const float* keys(int layer, int64_t position) const;
  const float* values(int layer, int64_t position) const;
  const float* queries(int layer, int64_t position) const;
  int32_t id(int64_t position) const { return ids_[static_cast<size_t>(position)]; }

  /// What stages and offline steps see of it, valid while the network lives: the weights below, and
  /// as activations of any n tokens (at most the text's) those of the text's first n.
  /// E_UNSUPPORTED: a loss.
  std::unique_ptr<ModelAccess> access() const;

  /// One pass of the tokens `positions` of this text as `sequence`; their outputs go to `out`.
  void pass(Cache& cache, SeqId sequence, Range positions, ReadPolicy read, ChunkEnd end,
            Outputs& out) const;

  /// What one layer hands over, row-major.
  struct Rows {
    std::vector<float> hidden{}, keys{}, keys_rotated{}, values{}, queries{};
  };
  const Rows& rows(int layer) const { return layers_[static_cast<size_t>(layer)]; }

  /// Projections of one layer, float32, [out, in] row-major as checkpoints have them; rows
  /// orthonormal in blocks of `in`, so that projected features vary as much as hidden ones.  Biases
  /// are empty where there are none.
  struct Weights {
    std::vector<float> query{}, key{}, value{}, output{}, key_bias{}, value_bias{};
  };
  const Weights& weights(int layer) const { return weights_[static_cast<size_t>(layer)]; }

 private:
  NetworkConfig config_;
  ModelShape shape_{};
  std::vector<Weights> weights_{};
  std::vector<Rows> layers_{};
  std::vector<int32_t> ids_{};
};

/// What one sequence contributes to a pass; all networks of a pass have one shape.
struct Feed {
  const Network* network = nullptr;
  SeqId sequence{};
  Range positions{};
  Outputs* out = nullptr;
};
void pass(Cache& cache, const std::vector<Feed>& feeds, ReadPolicy read, ChunkEnd end);

/// What `kvlab prepare` would make of a method with its parameters, on this network and its text.
Artifact prepare(const Network& network, const Registry& registry, const MethodSpec& spec);

/// The CPU engine with LibTorch's threads, or so many.
std::shared_ptr<Engine> make_engine(int threads = 0);
/// A cache of a method on the CPU.
std::unique_ptr<Cache> make_cache(const Network& network, const Registry& registry,
                                  const Json& method, SplitPolicy split = {}, int threads = 0);

/// The whole text through a new cache, in passes of the given lengths.
Outputs run(const Network& network, const Registry& registry, const Json& method,
            const std::vector<int64_t>& lengths, ReadPolicy read = ReadPolicy::masked);

/// What kv head `head` of `layer` holds of a position, in double; keys before RoPE.
using RowOf = std::function<std::vector<double>(int layer, int head, int64_t position)>;
/// Whether the query at position q may read the row at position j <= q.
using Reads = std::function<bool(int layer, int head, int64_t q, int64_t j)>;

struct Definition {
  RowOf key{}, value{};  // empty: the network's own
  Reads reads{};         // empty: all
  /// Position the query at q is rotated at when it meets the key at j; empty: q.
  std::function<int64_t(int64_t q, int64_t j)> seen_from{};
};

/// softmax(scale <R_q q, R_j k_j>) v_j over the rows a query reads; [layers][tokens, H, dv].
std::vector<std::vector<double>> defined(const Network& network, const Definition& definition);

/// Largest |have - want| of all layers.
double distance(const Outputs& have, const std::vector<std::vector<double>>& want);

}  // namespace kvlab::test
