#include "eval/experiment/record.h"

#include <algorithm>
#include <set>

#include "core/version.h"
#include "eval/process.h"
#include "eval/random.h"
#include "eval/threads.h"
#include "kernels/cpu_engine.h"

namespace kvlab {
namespace {

/// What each question is made from: its data, the same for all methods.
Json data_of(const std::vector<PlannedCell>& cells) {
  Json all = Json::object();
  for (const PlannedCell& cell : cells) {
    if (!cell.cell->is_dense) continue;
    all[cell.cell->id] = {{"task", cell.cell->task.name},
                          {"params", cell.cell->task.params},
                          {"samples", cell.work->count},
                          {"facts", cell.work->facts},
                          {"comparable", to_json(cell.facts)}};
  }
  return all;
}

Json models_of(const Experiment& experiment, Planner& planner) {
  Json all = Json::array();
  for (const Cell& cell : experiment.cells) {
    Json model{{"spec", cell.model}, {"files", planner.model_files(cell.model, experiment.folder)}};
    if (std::find(all.begin(), all.end(), model) == all.end()) all.push_back(std::move(model));
  }
  return all;
}

/// Of all methods, each once.
Json artifacts_of(const Experiment& experiment) {
  Json all = Json::array();
  for (const Cell& cell : experiment.cells) {
    for (Json& one : artifacts_of(cell)) {
      if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(std::move(one));
    }
  }
  return all;
}

Json ids_of(const Experiment& experiment) {
  Json ids = Json::array();
  for (const Cell& cell : experiment.cells) ids.push_back(cell.id);
  return ids;
}

Json seeds_of(const Experiment& experiment) {
  std::set<uint64_t> seeds;
  for (const Cell& cell : experiment.cells) seeds.insert(cell.seed);
  return seeds;
}

}  // namespace

Json describe_build() {
  const Version& v = version();
  return {{"version", v.number},
          {"commit", v.commit},
          {"build", v.build},
          {"compiler", v.compiler},
          {"torch", v.torch}};
}

Json start_record(const Experiment& experiment, const std::vector<PlannedCell>& cells,
                  Planner& planner, const RunOptions& options,
                  const std::optional<Json>& previous) {
  Json record{
      {"schema", "kvlab-record/1"},
      {"name", experiment.name},
      {"config", experiment.effective},
      {"folder", std::filesystem::absolute(experiment.folder / ".").lexically_normal()},
      {"cells", ids_of(experiment)},
      {"build", describe_build()},
      {"machine", describe_machine()},
      {"instruction_sets", cpu_instruction_sets()},
      {"threads", {{"asked", options.threads}, {"pool", thread_count()}, {"jobs", options.jobs}}},
      {"models", models_of(experiment, planner)},
      {"artifacts", artifacts_of(experiment)},
      {"data", data_of(cells)},
      {"random", {{"scheme", kRandomScheme}, {"data_seeds", seeds_of(experiment)}}},
      {"bootstrap",
       {{"resamples", Bootstrap{}.resamples},
        {"seed", "the data seed"},
        {"alpha", Bootstrap{}.alpha}}},
      {"dtypes", {{"accumulation", "float32; sums of NLL in float64"}}},
      {"sessions", Json::array()}};
  if (previous && previous->contains("sessions")) record["sessions"] = previous->at("sessions");
  record["sessions"].push_back({{"argv", options.argv},
                                {"started", utc_now()},
                                {"build", describe_build()},
                                {"finished", nullptr}});
  return record;
}

void record_observed(Json& record, const FinishedCells& cells) {
  Json kernels = Json::object(), dtypes = Json::object(), warnings = Json::array();
  int64_t nan_samples = 0;
  for (const FinishedCell* cell : cells) {
    const Json observed = to_json(CellOutcome{.kernels = cell->outcome.kernels});
    kernels[cell->cell->id] = {{"method", cell->cell->title}, {"kernels", observed.at("kernels")}};
    dtypes[cell->cell->id] = cell->outcome.dtype;
    nan_samples += cell->outcome.nan_samples();
    for (const std::string& warning : cell->outcome.warnings) {
      warnings.push_back(cell->cell->id + ": " + warning);
    }
  }
  record["kernels"] = std::move(kernels);
  record["dtypes"]["cache_and_activations"] = std::move(dtypes);
  record["warnings"] = std::move(warnings);
  record["nan_samples"] = nan_samples;
}

void end_record(Json& record, const RunResult& result, double seconds) {
  Json& session = record["sessions"].back();
  session["finished"] = utc_now();
  session["seconds"] = seconds;
  session["cells_run"] = result.ran;
  session["cells_kept"] = result.kept;
  session["cells_missing"] = result.missing;
  session["stopped"] = result.stopped;
  session["peak_rss_bytes"] = peak_resident_bytes();
  record_observed(record, result.cells());
}

}  // namespace kvlab
