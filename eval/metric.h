#pragma once
// A number that a result is judged by.  A metric is a plain value in the catalogue; a folder of
// eval/metrics/ adds a family of them.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "eval/outcome.h"
#include "eval/statistics.h"

namespace kvlab {

enum class Better : u8 { higher, lower, neither };
std::string_view name_of(Better better);

/// Exactly one of `shares`, `units` and `value` is set.
struct Metric {
  std::string name{}, unit{}, doc{};
  Better better = Better::neither;
  bool always = false;  // printed for every task, without interval; the others where a task asks
  bool where_measured = false;  // printed, with its interval, wherever samples say something of it
  bool timing = false;          // read from the clock or the process: differs from run to run
  bool in_name = false;  // the protocol's suffix belongs to the printed name (ppl_disjoint2048)
  /// What one sample adds; the value is finish(sum of sums / sum of weights), its interval comes
  /// from resampling the shares.  `dense`: the same sample with the dense cache; null where that
  /// run has none.  Empty: the sample says nothing about this metric.
  std::function<std::vector<Share>(const Outcome& sample, const Outcome* dense)> shares{};
  Finish finish = nullptr;
  /// For percentiles and maxima: what one sample adds, unit by unit; the value is reduce(all of
  /// them), its interval comes from resampling units.
  std::function<std::vector<std::vector<double>>(const Outcome& sample)> units{};
  Reduce reduce = nullptr;
  /// For what has no units.
  std::function<std::optional<double>(const CellOutcome& cell)> value{};
  /// Also, in results.jsonl as "by_layer": a number per layer, or a list of numbers, one per head;
  /// null for a layer that has none.  Null: the cell has nothing to say.
  std::function<Json(const CellOutcome& cell)> by_layer{};
};

/// Shares of consecutive tokens, 512 to a unit: neighbouring tokens are not independent.
std::vector<Share> token_blocks(const std::vector<double>& values);

/// The values themselves, cut the same way.
std::vector<std::vector<double>> token_units(const std::vector<double>& values);

/// A metric of one cell.
struct Estimate {
  double value = 0;
  int64_t units = 0;  // that were pooled
  std::optional<Interval> interval{};
  // Against the dense run of the same samples; absent for the dense run itself.
  std::optional<double> dense{}, delta{};
  std::optional<Interval> delta_interval{};
  // Of no difference: exact McNemar where every unit scores 0 or 1, else the bootstrap's.
  std::optional<double> p{};
};

/// Nothing when the cell has nothing to say.  Samples that met NaN, in either run, are left out.
std::optional<Estimate> estimate(const Metric& metric, const CellOutcome& cell,
                                 const CellOutcome& dense, bool is_dense, const Bootstrap& options);

}  // namespace kvlab
