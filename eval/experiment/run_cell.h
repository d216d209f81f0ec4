#pragma once
// All samples of one cell.

#include <functional>
#include <optional>

#include "eval/experiment/plan.h"
#include "eval/outcome.h"

namespace kvlab {

struct CellRun {
  Model* model = nullptr;
  const Registry* registry = nullptr;
  std::shared_ptr<Engine> engine{};
  std::function<void(int64_t tokens)> fed{};  // after every pass
  std::function<bool()> interrupted{};        // asked before every sample
};

/// Nothing when interrupted.
std::optional<CellOutcome> run_cell(const PlannedCell& planned, const CellRun& run);

/// How many tokens it will feed.
int64_t tokens_of(const PlannedCell& planned);

}  // namespace kvlab
