#pragma once
// Two runs against each other: the same questions, sample by sample.  What a build or a change of a
// method did, as a table and as a verdict for CI.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "eval/catalogue.h"
#include "eval/metric.h"

namespace kvlab {

struct CompareOptions {
  /// Titles ("quant(bits=4)"): only these methods are taken, and one is compared with the other.
  /// Empty: every method with itself.
  std::string method_a{}, method_b{};
  /// Empty: those of the task that know better from worse in a run by itself, and cr.
  std::vector<std::string> metrics{};
  /// How much worse is no loss, in the metric's unit: of one metric, else of all.
  std::map<std::string, double> tolerances{};
  double tolerance = 0;
  double alpha = 0.05;
  bool allow_mixed = false;
};

/// One metric of one pair of cells: `estimate` is of B, its reference is A.
struct MetricComparison {
  std::string question{}, heading{}, method{}, metric{}, unit{};
  Better better = Better::neither;
  bool timing = false;
  Estimate estimate{};
  std::optional<double> p_holm{};  // of all comparisons of this call that have a p
  double tolerance = 0;
  /// +1: B is better, -1: worse, by more than the tolerance and not by chance; else 0.  What has no
  /// p is exact (bytes), or a time, which is never judged.
  int verdict = 0;
};

struct RunComparison {
  std::vector<MetricComparison> lines{};
  /// "quant(bits=4) on mqar", or ": nll" after it: cells and metrics of A that B lacks, and cells
  /// that B has alone.  What vanished cannot be judged, so a gate must not pass because of it.
  std::vector<std::string> missing{}, added{};
  int64_t nan_samples = 0;  // of the pairs, in both runs: they are in no estimate
  bool is_worse() const;
};

/// Reads the finished cells of two run directories.  E_FILE: no run directory; E_UNKNOWN: a title
/// or metric that nothing has; E_CONFIG: a metric that is a difference to dense; E_INCOMPARABLE:
/// nothing pairs up, or a pair was made from other data, another dtype or protocol (unless
/// allow_mixed), or has other samples.
RunComparison compare_runs(const std::filesystem::path& a, const std::filesystem::path& b,
                           const CompareOptions& options, const Catalogue& catalogue);

/// A table per question.
std::string comparison_markdown(const RunComparison& comparison);
Json to_json(const RunComparison& comparison);

}  // namespace kvlab
