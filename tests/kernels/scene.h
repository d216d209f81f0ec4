#pragma once
// A batch of sequences with one dense part, its queries, and both answers: the engine's and the
// definition's.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "tests/kernels/oracle.h"
#include "tests/kernels/pages.h"

namespace kvlab::test {

struct SceneOptions {
  int num_heads = 4, num_kv_heads = 2, head_dim = 64, value_dim = 0;  // 0: head_dim
  std::string key_codec = "bfloat16", value_codec{};                  // empty: the key's
  std::string key_params = "{}", value_params = "{}";
  bool rotate_hadamard = false;
  std::vector<int64_t> lengths{100};
  int query_tokens = 1;  // the newest of each sequence
  Dtype query_dtype = Dtype::f32, out_dtype = Dtype::f32;
  double softcap = 0;
  int64_t window_left = -1;
  bool alibi = false, sinks = false;
  int distance_bias = 0;
  Rope rope{};
  bool keys_pre_rope = false;  // rotated when read; else keys are stored as they are
  int lists_per_sequence = 1;
  PagesOptions pages{};
  float key_size = 1.0f;  // standard deviation
  uint64_t seed = 1;
};

struct Answer {
  std::vector<float> out{}, lse{};  // [rows, H, dv], [rows, H]
  Ran ran{};
};

struct RunOptions {
  SplitPolicy split{};
  Level level = Level::automatic;
  const Plan* plan = nullptr;
};

class Scene {
 public:
  Scene(Engine& engine, const SceneOptions& options);
  Scene(const Scene&) = delete;

  Answer run(Engine& engine, const RunOptions& options = {});
  /// The same by definition, from the stored bytes.
  struct Expected {
    std::vector<double> out{}, lse{};
    double largest_logit = 0, largest_value = 0, key_mass = 0;  // key_mass: max scale sum |q k|
  };
  Expected expected() const;
  /// One sequence alone, with the same rows and queries.
  AttendCall call() const;

  RowMap rows() const { return {sequences_, indptr_, positions_}; }
  SceneOptions options;
  Layer shape{};
  Layout layout{};
  std::unique_ptr<Pages> pages{};
  std::vector<Segment> segments{};
  oracle::Head head(int64_t row, int head) const;          // what a query head makes of scores
  std::vector<float> queries{}, sinks{}, distance_bias{};  // [rows, H, d], [H], [H, entries]
  std::vector<int32_t> seen_from{};                        // of each row; empty: its position
  std::vector<SeqId> sequences_{};
  std::vector<int32_t> indptr_{}, positions_{};

 private:
  void fill(Engine& engine);
  std::vector<double> query(int64_t row, int head) const;  // as the keys meet it
  mutable std::vector<uint8_t> query_bytes_{};
};

/// Rows a kv head of a sequence can see, by the oracle.
std::vector<oracle::Row> oracle_rows(const Pages& pages, const Layer& shape, int sequence,
                                     int kv_head, bool keys_pre_rope);

/// What separates the engine's answer from the definition's: the bound of float32 attention.
/// Logits are off by (d + 16) 2^-24 sum |q k| at most (any order of summation), so weights by twice
/// that, relative; sums of n rows in float32 add n 2^-24, log-sum-exp the logit's error.
struct Bound {
  double out = 0, lse = 0;
  static Bound of(const Scene::Expected& expected, int head_dim, int64_t rows);
};

/// Fails the test where the engine's answer leaves the bound.
void expect_close(const Answer& answer, const Scene::Expected& expected, const Bound& bound,
                  const std::string& what);

std::string describe(const SceneOptions& options);

}  // namespace kvlab::test
