#include "eval/metric.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr size_t kBlock = 512;  // consecutive tokens of one unit

struct Pairs {
  std::vector<Share> cell, dense;
};

void append(std::vector<Share>& all, const std::vector<Share>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

Pairs paired_shares(const Metric& metric, const CellOutcome& cell, const CellOutcome& dense) {
  KVLAB_CHECK(cell.samples.size() == dense.samples.size());
  Pairs pairs;
  for (size_t i = 0; i < cell.samples.size(); ++i) {
    const Outcome &sample = cell.samples[i], &reference = dense.samples[i];
    if (sample.is_nan || reference.is_nan) continue;
    append(pairs.cell, metric.shares(sample, &reference));
    append(pairs.dense, metric.shares(reference, &reference));
  }
  return pairs;
}

bool zero_or_one(const std::vector<Share>& shares) {
  return std::all_of(shares.begin(), shares.end(), [](const Share& share) {
    return share.weight == 1 && (share.sum == 0 || share.sum == 1);
  });
}

double mcnemar_of(const Pairs& pairs) {
  int64_t worse = 0, better = 0;
  for (size_t i = 0; i < pairs.cell.size(); ++i) {
    if (pairs.cell[i].sum < pairs.dense[i].sum) ++worse;
    if (pairs.cell[i].sum > pairs.dense[i].sum) ++better;
  }
  return mcnemar(better, worse);
}

void compare(Estimate& estimate, double dense) {
  estimate.dense = dense;
  estimate.delta = estimate.value - dense;
}

/// Of a proportion Wilson's, which is not empty where every unit agrees; else the bootstrap's.
Interval interval_of(const Metric& metric, const std::vector<Share>& shares,
                     const Bootstrap& options) {
  Interval interval = bootstrap(shares, options, metric.finish);
  if (metric.finish != nullptr || metric.unit != "fraction" || !zero_or_one(shares))
    return interval;
  const double hits = pooled(shares) * static_cast<double>(shares.size());
  std::tie(interval.low, interval.high) = wilson(std::llround(hits), std::ssize(shares));
  return interval;
}

std::optional<Estimate> estimate_ratio(const Metric& metric, const Pairs& pairs, bool is_dense,
                                       const Bootstrap& options) {
  if (pairs.cell.empty()) return std::nullopt;
  const auto value = [&](const std::vector<Share>& shares) {
    const double ratio = pooled(shares);
    return metric.finish == nullptr ? ratio : metric.finish(ratio);
  };
  Estimate estimate{.value = value(pairs.cell), .units = static_cast<int64_t>(pairs.cell.size())};
  const bool wants_interval = estimate.units > 1 && !metric.always;
  if (wants_interval) estimate.interval = interval_of(metric, pairs.cell, options);
  // An answer that is not there adds no unit: then nothing pairs up.
  if (is_dense || pairs.dense.size() != pairs.cell.size()) return estimate;
  compare(estimate, value(pairs.dense));
  if (!metric.always) {
    const Difference difference =
        bootstrap_difference(pairs.cell, pairs.dense, options, metric.finish);
    if (wants_interval) estimate.delta_interval = difference.interval;
    estimate.p = difference.p;
  }
  if (zero_or_one(pairs.cell) && zero_or_one(pairs.dense)) estimate.p = mcnemar_of(pairs);
  return estimate;
}

std::optional<Estimate> estimate_reduced(const Metric& metric, const CellOutcome& cell,
                                         const Bootstrap& options) {
  std::vector<std::vector<double>> units;
  std::vector<double> all;
  for (const Outcome& sample : cell.samples) {
    if (sample.is_nan) continue;
    for (std::vector<double>& unit : metric.units(sample)) {
      if (unit.empty()) continue;
      all.insert(all.end(), unit.begin(), unit.end());
      units.push_back(std::move(unit));
    }
  }
  if (units.empty()) return std::nullopt;
  Estimate estimate{.value = metric.reduce(all), .units = std::ssize(units)};
  if (estimate.units > 1) estimate.interval = bootstrap_units(units, options, metric.reduce);
  return estimate;
}

}  // namespace

std::string_view name_of(Better better) {
  switch (better) {
    case Better::higher:
      return "higher";
    case Better::lower:
      return "lower";
    case Better::neither:
      break;
  }
  return "neither";
}

std::vector<Share> token_blocks(const std::vector<double>& values) {
  std::vector<Share> blocks;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % kBlock == 0) blocks.push_back({0, 0});
    blocks.back().sum += values[i];
    blocks.back().weight += 1;
  }
  return blocks;
}

std::vector<std::vector<double>> token_units(const std::vector<double>& values) {
  std::vector<std::vector<double>> units;
  for (size_t i = 0; i < values.size(); i += kBlock) {
    const auto end =
        values.begin() + static_cast<std::ptrdiff_t>(std::min(i + kBlock, values.size()));
    units.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(i), end);
  }
  return units;
}

std::optional<Estimate> estimate(const Metric& metric, const CellOutcome& cell,
                                 const CellOutcome& dense, bool is_dense,
                                 const Bootstrap& options) {
  if (metric.shares) {
    return estimate_ratio(metric, paired_shares(metric, cell, dense), is_dense, options);
  }
  if (metric.units) return estimate_reduced(metric, cell, options);
  const std::optional<double> value = metric.value(cell);
  if (!value) return std::nullopt;
  Estimate estimate{.value = *value};
  const std::optional<double> reference = metric.value(dense);
  if (!is_dense && reference) compare(estimate, *reference);
  return estimate;
}

}  // namespace kvlab
