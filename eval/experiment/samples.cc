#include "eval/experiment/samples.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "eval/experiment/plan.h"

namespace kvlab {

Experiment experiment_of_tasks(const Json& tasks, const Json& model, uint64_t seed,
                               const std::filesystem::path& folder, const Registry& registry,
                               const Catalogue& catalogue) {
  return parse_experiment({{"schema", kConfigSchema},
                           {"name", "samples"},
                           {"seed", seed},
                           {"model", model},
                           {"tasks", tasks}},
                          folder, registry, catalogue);
}

void each_sample(const Experiment& experiment, int64_t count, const Registry& registry,
                 const Catalogue& catalogue, const std::function<void(const Json& record)>& take) {
  KVLAB_REQUIRE(count >= 0, "E_CONFIG", "samples: count is ", count, ", must be 0 (all) or more");
  Planner planner(registry, catalogue, {.digest_models = false});
  std::set<const Work*> seen;  // cells of another matrix or method ask the same
  for (const Cell& cell : experiment.cells) {
    const std::shared_ptr<const Work> work = planner.work(cell, experiment.folder);
    if (!seen.insert(work.get()).second) continue;
    const int64_t last = count == 0 ? work->count : std::min(count, work->count);
    for (int64_t i = 0; i < last; ++i) take(record_of(work->sample(i), cell.task.name, cell.seed));
  }
}

}  // namespace kvlab
