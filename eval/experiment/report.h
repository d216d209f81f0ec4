#pragma once
// What is written and printed about finished cells.  Derived: the same cells give the same text.

#include <filesystem>
#include <string>
#include <vector>

#include "eval/catalogue.h"
#include "eval/experiment/comparable.h"
#include "eval/experiment/config.h"
#include "eval/outcome.h"

namespace kvlab {

/// A cell with what it gave: the content of cells/<id>.json.
struct FinishedCell {
  const Cell* cell = nullptr;
  std::string protocol_suffix{};
  std::vector<std::string> metrics{};  // of the task, the headline first
  Comparable facts{};
  Json data = Json::object();  // what the task says of its data: files, BOS handling, counts
  CellOutcome outcome{};
  Json provenance = Json::object();  // when, where, how long
};
using FinishedCells = std::vector<const FinishedCell*>;  // in the order of the expansion
Json to_json(const FinishedCell& cell);
/// E_FORMAT.  `cell` is what the caller expects it to be.
FinishedCell finished_from(const Json& json, const Cell& cell);

/// A line of results.jsonl per metric: the task's first, then those everybody has.  Lines with
/// "timing": true hold what differs from run to run; the others are equal, byte for byte.
/// `dense` is the cell's reference.
std::vector<Json> result_lines(const FinishedCell& cell, const FinishedCell& dense,
                               const Catalogue& catalogue);
/// A line of samples.jsonl per sample; all that differs from run to run is under "timing".
std::vector<Json> sample_lines(const FinishedCell& cell, const FinishedCell& dense,
                               const Catalogue& catalogue);

/// Lines of all cells whose dense cell is there.  Among results, "p_holm" is "p" corrected for the
/// methods that answer one question by one metric, and "best": true stands where a method is better
/// than all others and its paired interval against the next best excludes 0.
std::vector<Json> all_result_lines(const Experiment& experiment, const FinishedCells& cells,
                                   const Catalogue& catalogue);
std::vector<Json> all_sample_lines(const Experiment& experiment, const FinishedCells& cells,
                                   const Catalogue& catalogue);

/// Lines of a JSON Lines file, and back.  E_FILE, E_FORMAT.
std::string json_lines(const std::vector<Json>& lines);
std::vector<Json> read_json_lines(const std::filesystem::path& path);
/// Result lines as a table (RFC 4180): fixed columns, numbers in full precision.
std::string csv(const std::vector<Json>& result_lines);

}  // namespace kvlab
