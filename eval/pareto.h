#pragma once
// Accuracy against compression: which settings of a method are worth having, and two numbers for
// the curve they make.

#include <cstddef>
#include <optional>
#include <span>
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

}  // namespace kvlab
