#pragma once
// What a cache must answer, from the text of core/README.md alone: every token's rows are kept for
// ever, and for each query it is worked out from positions which rows it reads, and in which form.
// Shares nothing with the store or the cache; slow on purpose.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace kvlab::test {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;  // rows

/// Rows of one kv head after encode and decode; a tile codec gets whole tiles.
using RoundTrip = std::function<Matrix(const Matrix& rows)>;
/// The test codecs, written a second time from their text in reference_engine.h.
RoundTrip round_trip_of(const std::string& codec);

enum class Policy { raw_chunk, stored, masked };

/// A selector that flags rows, as the oracle sees it.
struct FlagRules {
  int64_t sinks = 0, recent = 1;
  bool per_head = false;
};

/// One layer.
struct OracleRules {
  int heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
  double scale = 1;
  int64_t window_left = -1;
  int lists = 1;                     // per sequence: 1 or kv_heads
  int tile = 1;                      // rows move in tiles of the larger of
  int key_tile = 1, value_tile = 1;  // what the codecs encode together
  int64_t first = 0, lag = 0;
  bool lossy = false;
  RoundTrip recent_form, key_form, value_form;
  std::vector<FlagRules> flags{};
};

struct OracleRow {
  Matrix keys{}, values{};                // [kv heads][dim], as given
  std::vector<std::vector<bool>> keep{};  // [selector][kv head, or one]
};

/// One sequence on one layer.
class OracleList;
class OracleLayer {
 public:
  explicit OracleLayer(const OracleRules& rules) : rules_(&rules) {}

  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  void append(OracleRow row) { rows_.push_back(std::move(row)); }
  void truncate(int64_t n);
  /// A budget took the row at the end of the pass whose newest position is `last`.
  void drop(int list, int64_t position, int64_t last) { dropped_[{list, position}] = last; }

  /// Output [heads][value_dim] and log of the sum for one query at position q of a pass
  /// [begin, end) that has appended all its rows.
  struct Answer {
    Matrix out{};
    Vector lse{};
  };
  Answer attend(const Matrix& queries, int64_t q, int64_t begin, int64_t end, Policy policy) const;

  /// Positions a list holds for queries at `next` and later.
  std::vector<int64_t> living(int list, int64_t next) const;
  /// When each row was encoded; never: a position beyond all.
  std::vector<int64_t> encoded_at(int list, int64_t newest) const;
  int64_t until(int list, int64_t position) const;
  bool lives(int list, int64_t position, int64_t q) const;
  /// A row as the next query reads it.
  Vector held(int64_t position, int head, bool of_keys) const;
  bool is_dropped(int list, int64_t position) const { return dropped_.contains({list, position}); }
  int64_t dropped_when(int list, int64_t position) const { return dropped_.at({list, position}); }
  const OracleRules& rules() const { return *rules_; }
  static constexpr int64_t kNever = int64_t{1} << 40;

 private:
  struct Encoded {
    std::vector<int64_t> when{};               // per row
    std::vector<std::vector<int64_t>> tile{};  // per row: the rows encoded with it
  };
  Encoded encode(int list, int64_t newest) const;
  Matrix form(int64_t position, int head, bool of_keys, bool encoded, const Encoded& all) const;

  const OracleRules* rules_;
  std::vector<OracleRow> rows_{};
  std::map<std::pair<int, int64_t>, int64_t> dropped_{};
};

}  // namespace kvlab::test
