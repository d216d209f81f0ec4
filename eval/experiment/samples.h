#pragma once
// What the tasks of an experiment ask, without asking it.

#include <functional>

#include "eval/catalogue.h"
#include "eval/experiment/config.h"

namespace kvlab {

/// An experiment of tasks alone, for their samples: `tasks` as in a config.
Experiment experiment_of_tasks(const Json& tasks, const Json& model, uint64_t seed,
                               const std::filesystem::path& folder, const Registry& registry,
                               const Catalogue& catalogue);

/// record_of the first `count` samples (0: of all) of every model, task and seed, in order.
void each_sample(const Experiment& experiment, int64_t count, const Registry& registry,
                 const Catalogue& catalogue, const std::function<void(const Json& record)>& take);

}  // namespace kvlab
