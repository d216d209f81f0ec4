#pragma once
// Uncertainty of what was measured.  The unit of resampling is what was drawn independently: a
// sample of a task, a block of consecutive tokens of a text; never a single token of one.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace kvlab {

/// What one unit adds to a value sum / weight: a score of a sample (weight 1), the summed NLL of a
/// block and its tokens, dense bytes and stored bytes, ...
struct Share {
  double sum = 0, weight = 1;
  bool operator==(const Share&) const = default;
};

/// Sum of sums over sum of weights.
double pooled(std::span<const Share> shares);

/// sqrt((mean(x^2) - mean(x)^2) / (m - 1)): of a mean of independent values.  Too small for token
/// losses, which are correlated; printed beside what other programs print.
double se_iid(std::span<const double> values);

struct Interval {
  double low = 0, high = 0, se = 0;
};
struct Bootstrap {
  int resamples = 2000;
  uint64_t seed = 0;
  double alpha = 0.05;
};

/// Percentile interval of finish(pooled) and the standard deviation of the resampled values.
using Finish = double (*)(double);
Interval bootstrap(std::span<const Share> shares, const Bootstrap& options,
                   Finish finish = nullptr);

/// The same of finish(pooled(a)) - finish(pooled(b)), unit i of `a` and of `b` drawn together.
Interval bootstrap_difference(std::span<const Share> a, std::span<const Share> b,
                              const Bootstrap& options, Finish finish = nullptr);

/// Wilson interval of k successes in n trials, 95 %.
std::pair<double, double> wilson(int64_t k, int64_t n);

/// Exact McNemar test: b and c count the two kinds of disagreement.
double mcnemar(int64_t b, int64_t c);

}  // namespace kvlab
