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

/// The same of reduce(values of all units drawn): percentiles, maxima.  Units are not empty; reduce
/// may reorder what it is given.
using Reduce = double (*)(std::span<double>);
Interval bootstrap_units(std::span<const std::vector<double>> units, const Bootstrap& options,
                         Reduce reduce);

/// The smallest value that at least the share q of them does not exceed; `values` is reordered.
double quantile(std::span<double> values, double q);

/// The same of finish(pooled(a)) - finish(pooled(b)), unit i of `a` and of `b` drawn together.
/// p: two-sided, of no difference: twice the share of resamples on the rarer side of 0, (k + 1) /
/// (B + 1) each; never below what so many coins could show, 2^(1 - units).
struct Difference {
  Interval interval{};
  double p = 1;
};
Difference bootstrap_difference(std::span<const Share> a, std::span<const Share> b,
                                const Bootstrap& options, Finish finish = nullptr);

/// Wilson interval of k successes in n trials, 95 %.
std::pair<double, double> wilson(int64_t k, int64_t n);

/// Exact McNemar test: b and c count the two kinds of disagreement.
double mcnemar(int64_t b, int64_t c);

/// Holm's correction of a family of tests: the i-th smallest of m times m - i, from i = 0; then
/// none below a smaller one's, none above 1.  In the order given.
std::vector<double> holm(std::span<const double> p);

}  // namespace kvlab
