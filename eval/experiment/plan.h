#pragma once
// From cells to what can be run: tasks prepared, rules of measurement applied.  No weight is read
// before every cell has passed.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/experiment/comparable.h"
#include "eval/experiment/config.h"
#include "eval/run_sample.h"
#include "eval/task.h"

namespace kvlab {

struct PlannedCell {
  const Cell* cell = nullptr;
  Json model{};                      // its specification, paths looked up
  std::vector<MethodSpec> method{};  // likewise
  std::shared_ptr<const Work> work{};
  Feeding feeding{};
  bool says_exact = false;  // Capabilities::exact of its method
  Comparable facts{};
};

struct PlanOptions {
  bool allow_vacuous = false;
  bool digest_models = true;  // reading every weight file once
};

/// Prepares tasks and digests models, each once.
class Planner {
 public:
  Planner(const Registry& registry, const Catalogue& catalogue, const PlanOptions& options);
  ~Planner();
  /// Checks everything about a cell that needs no weights.
  PlannedCell plan(const Cell& cell, const std::filesystem::path& folder);
  /// A cell's task, prepared for its model; no sample has been made yet.
  std::shared_ptr<const Work> work(const Cell& cell, const std::filesystem::path& folder);
  /// digest_model, once for each.
  const Json& model_files(const Json& model, const std::filesystem::path& folder);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvlab
