#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/error.h"
#include "eval/random.h"

namespace kvlab {
namespace {

double apply(Finish finish, double value) { return finish == nullptr ? value : finish(value); }

Share add(Share total, const Share& share) {
  return {total.sum + share.sum, total.weight + share.weight};
}

/// Draws `units` unit numbers per resample and evaluates `value` on them; ascending.
std::vector<double> resample(size_t units, const Bootstrap& options,
                             const std::function<double(std::span<const size_t>)>& value) {
  SplitMix64 random(options.seed);
  std::vector<size_t> drawn(units);
  std::vector<double> values(static_cast<size_t>(options.resamples));
  for (double& v : values) {
    for (size_t& unit : drawn) unit = random.below(units);
    v = value(drawn);
  }
  std::sort(values.begin(), values.end());
  return values;
}

Interval interval_of(std::span<const double> values, double alpha) {
  const double count = static_cast<double>(values.size());
  double mean = 0, square = 0;
  for (const double v : values) mean += v / count;
  for (const double v : values) square += (v - mean) * (v - mean);
  const auto at = [&](double share) {
    return values[static_cast<size_t>(std::max(std::ceil(share * count) - 1, 0.0))];
  };
  return {at(alpha / 2), at(1 - alpha / 2), std::sqrt(square / (count - 1))};
}

double p_of(std::span<const double> values, size_t units) {
  // A resample that is NaN (no unit of it had a weight) speaks for neither side.
  const auto below = std::ranges::count_if(values, [](double v) { return !(v > 0); });
  const auto above = std::ranges::count_if(values, [](double v) { return !(v < 0); });
  const double rarer = static_cast<double>(std::min(below, above)) + 1;
  const double p = 2 * rarer / (static_cast<double>(values.size()) + 1);
  return std::min(1.0, std::max(p, std::exp2(1 - static_cast<double>(units))));
}

}  // namespace

double pooled(std::span<const Share> shares) {
  Share total{0, 0};
  for (const Share& share : shares) total = add(total, share);
  return total.sum / total.weight;
}

double se_iid(std::span<const double> values) {
  const double count = static_cast<double>(values.size());
  double mean = 0, square = 0;
  for (const double v : values) mean += v / count;
  for (const double v : values) square += (v - mean) * (v - mean) / count;
  return std::sqrt(square / (count - 1));
}

Interval bootstrap(std::span<const Share> shares, const Bootstrap& options, Finish finish) {
  const auto value = [&](std::span<const size_t> drawn) {
    Share total{0, 0};
    for (const size_t unit : drawn) total = add(total, shares[unit]);
    return apply(finish, total.sum / total.weight);
  };
  return interval_of(resample(shares.size(), options, value), options.alpha);
}

Interval bootstrap_units(std::span<const std::vector<double>> units, const Bootstrap& options,
                         Reduce reduce) {
  std::vector<double> all;
  const auto value = [&](std::span<const size_t> drawn) {
    all.clear();
    for (const size_t unit : drawn) all.insert(all.end(), units[unit].begin(), units[unit].end());
    return reduce(all);
  };
  return interval_of(resample(units.size(), options, value), options.alpha);
}

double quantile(std::span<double> values, double q) {
  const double rank = std::ceil(q * static_cast<double>(values.size()) - 1e-9) - 1;
  const auto at = static_cast<std::ptrdiff_t>(std::max(rank, 0.0));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

Difference bootstrap_difference(std::span<const Share> a, std::span<const Share> b,
                                const Bootstrap& options, Finish finish) {
  KVLAB_CHECK(a.size() == b.size());
  const auto value = [&](std::span<const size_t> drawn) {
    Share of_a{0, 0}, of_b{0, 0};
    for (const size_t unit : drawn) {
      of_a = add(of_a, a[unit]);
      of_b = add(of_b, b[unit]);
    }
    return apply(finish, of_a.sum / of_a.weight) - apply(finish, of_b.sum / of_b.weight);
  };
  const std::vector<double> values = resample(a.size(), options, value);
  return {interval_of(values, options.alpha), p_of(values, a.size())};
}

std::pair<double, double> wilson(int64_t k, int64_t n) {
  constexpr double z = 1.959963984540054;  // 97.5 % of the normal distribution
  const double trials = static_cast<double>(n), share = static_cast<double>(k) / trials;
  const double scale = 1 / (1 + z * z / trials);
  const double middle = scale * (share + z * z / (2 * trials));
  const double half =
      scale * z * std::sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials));
  return {k == 0 ? 0.0 : middle - half,
          k == n ? 1.0 : middle + half};  // exact there, but for rounding
}

double mcnemar(int64_t b, int64_t c) {
  const double n = static_cast<double>(b + c);
  double tail = 0;
  for (int64_t i = 0; i <= std::min(b, c); ++i) {
    const double k = static_cast<double>(i);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) -
                     n * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return p[i]; });
  std::vector<double> corrected(p.size());
  double least = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    least = std::max(least, p[order[rank]] * static_cast<double>(p.size() - rank));
    corrected[order[rank]] = std::min(1.0, least);
  }
  return corrected;
}

}  // namespace kvlab
