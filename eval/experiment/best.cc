#include "eval/experiment/best.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace kvlab {

std::optional<size_t> distinctly_best(const FinishedCells& cells, const Metric& metric,
                                      std::span<const double> values) {
  KVLAB_CHECK(cells.size() == values.size());
  if (metric.better == Better::neither || metric.always || !metric.shares) return std::nullopt;
  std::vector<size_t> order;
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isnan(values[i])) order.push_back(i);
  if (order.size() < 2) return std::nullopt;
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return metric.better == Better::higher ? values[a] > values[b] : values[a] < values[b];
  });
  const FinishedCell &best = *cells[order[0]], &next = *cells[order[1]];
  const std::optional<Estimate> paired =
      estimate(metric, best.outcome, next.outcome, false, {.seed = best.cell->seed});
  if (!paired || !paired->delta_interval) return std::nullopt;
  const auto [low, high, se] = *paired->delta_interval;
  const bool is_distinct = metric.better == Better::higher ? low > 0 : high < 0;
  return is_distinct ? std::optional(order[0]) : std::nullopt;
}

}  // namespace kvlab
