#pragma once
// A run again, from its record: are the results the same, and if not, what was different about the
// machine or the build.

#include <filesystem>
#include <string>
#include <vector>

#include "eval/experiment/run.h"

namespace kvlab {

/// One number that came out otherwise: field `field` of a line of results.jsonl.
struct ResultDifference {
  std::string method{}, task{}, metric{}, field{};
  Json was{}, is{};  // null: not there
};

struct Reproduction {
  size_t equal = 0;  // lines that are the same in every field
  std::vector<ResultDifference> differences{};
  std::vector<std::string> circumstances{};  // "cpu: X, now Y"
};

/// The experiment of a run directory's record.json.  `folder`: where its input files are looked up;
/// empty: where they were.  E_FILE, E_FORMAT, and what parse_experiment refuses.
Experiment recorded_experiment(const std::filesystem::path& run,
                               const std::filesystem::path& folder, const Registry& registry,
                               const Catalogue& catalogue);

/// Results of two run directories, line by line; lines of timings are left out.  E_FILE, E_FORMAT.
Reproduction reproduction_of(const std::filesystem::path& was, const std::filesystem::path& is);

std::string reproduction_markdown(const Reproduction& reproduction);
Json to_json(const Reproduction& reproduction);

}  // namespace kvlab
