#pragma once
// An experiment as JSON (schema kvlab-config/1) and the cells it stands for.
//
//   {"schema": "kvlab-config/1", "name": "mqar", "output": "runs/mqar", "seed": 7,
//    "model": {"builtin": "recall2"},
//    "tasks": [{"builtin": "mqar", "pairs": 8, "context": 128}, {"ppl": "decode", "text":
//    "a.txt"}], "methods": ["dense", {"name": "quant", "params": {"bits": {"sweep": [8, 4]}}},
//    "window+quant"], "matrix": {"prefill_chunk": [0, 512], "read_policy": ["raw_chunk"],
//    "query_aware": [false]}, "exclude": [{"method": "quant", "bits": 4, "prefill_chunk": 0}],
//    "repeat": {"seeds": [7, 8]}, "limits": {"max_seconds": 3600}}
//
// Unknown keys are refused.  sweep, range and zip may stand anywhere in model, tasks and methods.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/compose.h"
#include "eval/catalogue.h"
#include "eval/sha256.h"

namespace kvlab {

/// Values of the matrix that one cell has.
struct CellMatrix {
  std::optional<int64_t> prefill_chunk{};  // absent: as the task's protocol says
  ReadPolicy read_policy = ReadPolicy::raw_chunk;
  bool query_aware = false;
};

/// A task of a config: its kind and its parameters, completed.
struct TaskSpec {
  std::string name{};
  Json params = Json::object();
};

/// The smallest thing that is run and kept.
struct Cell {
  Json model{};
  TaskSpec task{};
  std::vector<MethodSpec> method{};
  std::vector<FileDigest> artifacts{};  // of each of them; empty where it names none
  CellMatrix matrix{};
  uint64_t seed = 0;
  bool is_dense = false;
  std::string id{};      // of everything above
  std::string title{};   // of the method, as tables show it
  size_t reference = 0;  // the dense cell of the same task, matrix and seed, by its place
};

struct Experiment {
  Json effective{};  // as given, after --set
  std::string name{};
  std::filesystem::path output{}, folder{};  // input files are looked up from `folder`
  double max_seconds = 0;                    // 0: no limit
  std::vector<Cell> cells{};  // methods outermost, dense first; then tasks, matrix, seeds
};

/// E_CONFIG, E_UNKNOWN, E_FORMAT: one sentence that names the key.  E_FILE: an artifact that cannot
/// be read; each is digested once, so that a cell's id says what is in it.
Experiment parse_experiment(const Json& config, const std::filesystem::path& folder,
                            const Registry& registry, const Catalogue& catalogue);

/// Sets a.b=c in `config`: the value is JSON where it parses, else a string.  Path steps are keys
/// or places in lists.  E_CONFIG.
void override_value(Json& config, std::string_view assignment);

/// {"builtin": "mqar", ...} or {"ppl": "decode", ...}, completed by the task's schema.
TaskSpec parse_task(const Json& given, const Catalogue& catalogue);

/// "quant(bits=2,key.axis=channel)+window": parameters that differ from their defaults, and those
/// that are `varied` ("quant.bits"); of an object its members that differ.
std::string method_title(const std::vector<MethodSpec>& specs, const Registry& registry,
                         const std::set<std::string>& varied = {});

/// First 16 hex digits of SHA-256 of the canonical JSON of {model, task, method, matrix, seed,
/// schema}.
std::string cell_id(const Cell& cell);
/// That JSON.  Beside a method's "artifact" stands "artifact_sha256".
Json describe(const Cell& cell);
/// [{"path", "sha256", "bytes"}] of those that its methods name, paths as they are written.
Json artifacts_of(const Cell& cell);
/// An input file of a config whose folder is `folder`.
std::filesystem::path from_folder(const std::filesystem::path& folder,
                                  const std::filesystem::path& path);
/// What a described cell asks, whatever the method: cells of one question stand in one table.
std::string question_of(Json described);

inline constexpr std::string_view kConfigSchema = "kvlab-config/1";
inline constexpr std::string_view kReference = "dense";  // what everything is compared with

}  // namespace kvlab
