#pragma once
// Result lines, put together again: questions, and a row per method.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/metric.h"

namespace kvlab {

/// All result lines of one cell.
struct PageRow {
  std::string run{}, title{}, family{};
  std::string setting{};  // what tells it from the others of its family: "bits 4"
  bool is_dense = false;
  int64_t nan_samples = 0;
  std::vector<const Json*> lines{};  // in their order
  std::map<std::string, const Json*> by_metric{};

  const Json* find(const std::string& metric) const;
  std::optional<double> value(const std::string& metric) const;
};

/// One model, task, matrix and seed.
struct PageQuestion {
  std::vector<PageRow> rows{};  // dense first
  const Json& head() const { return *rows[0].lines[0]; }
  /// The first metric of the task, as it is printed, and its direction.
  std::string headline() const { return head().at("metric"); }
  bool higher_is_better() const { return head().at("better") == "higher"; }
};

/// In the order of the lines; questions whose dense cell is missing are left out.
std::vector<PageQuestion> page_questions(const std::vector<Json>& results);

/// Nothing where there is none, or no finite one.
std::optional<double> number_in(const Json& line, const char* field);

/// What a result line says, as it was before it was written.
Estimate estimate_from(const Json& line);

}  // namespace kvlab
