#pragma once
// Which cell of a table's column is bold: the best one, if the data say that it is.

#include <optional>
#include <span>

#include "eval/experiment/report.h"
#include "eval/metric.h"

namespace kvlab {

/// The place among `cells`, which answer one question, of the one that is best by `metric` and
/// whose paired interval against the next best excludes 0.  values[i]: of cells[i]; NaN: none.
/// Nothing for metrics that have no better, no samples to resample, or fewer than two values.
std::optional<size_t> distinctly_best(const FinishedCells& cells, const Metric& metric,
                                      std::span<const double> values);

}  // namespace kvlab
