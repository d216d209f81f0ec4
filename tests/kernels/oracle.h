#pragma once
// Attention by its definition, in double: what every engine is compared with.  Written from the
// mathematics alone; includes no header of kernels/.

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

namespace kvlab::oracle {

inline constexpr double kNone = -std::numeric_limits<double>::infinity();

/// One stored row as one kv head sees it: decoded, mapped, rotated.
struct Row {
  std::vector<double> key{}, value{};
  int64_t position = 0, from = 0, until = std::numeric_limits<int32_t>::max();
};

struct Head {
  double scale = 1, softcap = 0, slope = 0;
  std::vector<double> distance_bias{};  // by distance, the last for all beyond; empty: none
  std::optional<int64_t> seen_from{};   // where distances begin; absent: the query's position
  int64_t window_left = -1;
  std::optional<double> sink{};
};

struct Answer {
  std::vector<double> out{};          // [value_dim]
  double lse = kNone;                 // natural
  std::vector<double> probability{};  // of each row
  double largest_logit = 0;           // in magnitude, of visible rows
};

/// softmax over the visible rows; a sink takes part in the denominator only.
Answer attend(const std::vector<double>& query, int64_t position, const std::vector<Row>& rows,
              const Head& head, int64_t value_dim);

/// Rotary embedding: pairs (c, c + n) or (2c, 2c + 1), n = inv_freq.size(), turn by position *
/// inv_freq[c]; cos and sin times `factor`.
std::vector<double> rotate(std::vector<double> x, int64_t position,
                           const std::vector<double>& inv_freq, bool interleaved, double factor);

/// y = (I (x) H_p) P x, see the formula in kernels/hadamard.h: p the largest power of two dividing
/// the width, block b holding channels b, b + r/p, ...
std::vector<double> hadamard(const std::vector<double>& x);
std::vector<double> hadamard_back(const std::vector<double>& y);

}  // namespace kvlab::oracle
