#pragma once
// Accuracy against compression: which settings of a method are worth having, and two numbers for
// the curve they make.

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kvlab {

/// Of one setting: compression ratio (dense in 16 bits: 1) and a score of which more is better.
struct Tradeoff {
  double cr = 0, score = 0;
};

/// Places of those that no other beats: none has at least their cr and score, and more of one.  By
/// ascending cr; of equals the first.
std::vector<size_t> pareto_front(std::span<const Tradeoff> points);

/// The largest cr at which the front, linear in log2 cr between its points, still scores `share` of
/// `dense`.  Nothing when no point does.
std::optional<double> cr_at_share(std::span<const Tradeoff> points, double dense, double share);

/// Mean of score / dense along the front over log2 cr, from its first to its last point.  Nothing
/// for fronts of one cr, and where dense scores 0.
std::optional<double> pareto_mean(std::span<const Tradeoff> points, double dense);

/// What the settings of one method make of accuracy and compression.
struct Curve {
  std::string method{};
  size_t settings = 0, on_front = 0;   // dense is a point of every curve, and not counted here
  std::optional<double> cr_at_1pct{};  // largest cr that keeps 99 % of dense's score
  std::optional<double> mean{};        // pareto_mean
};
/// Of every method with at least two settings, by name.
std::vector<Curve> curves(const Tradeoff& dense,
                          const std::map<std::string, std::vector<Tradeoff>>& methods);

}  // namespace kvlab
