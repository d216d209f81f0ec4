#pragma once
// Numbers that others have published, to be printed beside ours: other models, other settings,
// never comparable, but what a reader has in mind.
//
// eval/references.json, compiled into the library:
//   {"schema": "kvlab-references/1",
//    "families": {FAMILY: [names of tasks, "*" at the end stands for any end]},
//    "tables": [{ROW, "rows": [ROW, ...]}, ...]}
// What a table says holds for its rows.  A whole row has "family", "method" (as configs name it),
// "model", "benchmark", "metric", "unit", "setting", "source", "value", and where they were
// reported "bits" and "cr".  Numbers stand as they were printed; none is computed.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvlab {

struct Reference {
  std::string family{}, method{}, model{}, benchmark{}, metric{}, unit{}, setting{}, source{};
  double value = 0;
  std::optional<double> bits{}, cr{};
  size_t table = 0;  // rows of one table were measured together
};
Json to_json(const Reference& row);

class References {
 public:
  /// E_FORMAT: names the row and what is wrong with it.
  explicit References(const Json& document);
  const std::vector<Reference>& rows() const { return rows_; }
  /// Rows of the task's families that are of `methods` or dense.  Tables with one of the methods
  /// come first, whole.
  std::vector<const Reference*> concerning(std::string_view task,
                                           const std::set<std::string>& methods) const;

 private:
  bool is_of(const Reference& row, std::string_view task) const;
  std::map<std::string, std::vector<std::string>> families_{};
  std::vector<Reference> rows_{};
};

/// Those of this build.
const References& references();

inline constexpr std::string_view kReportedElsewhere =
    "Reported elsewhere, other models and settings: not comparable.";

/// A table of them.
std::string references_markdown(const std::vector<const Reference*>& rows);

/// Rows that concern the questions of a run, each once, as JSON: by lines of results.jsonl.
Json references_beside(const std::vector<Json>& result_lines, const References& all);

/// The parts of a method's label: "window+quant" is window and quant.
std::set<std::string> methods_in(std::string_view label);

}  // namespace kvlab
