#pragma once
// Planned cells to finished ones, in this process.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "eval/experiment/plan.h"
#include "eval/experiment/report.h"
#include "eval/model.h"

namespace kvlab {

/// This process' part of the machine.
struct ThreadShare {
  int asked = 0;  // by the user; 0: useful_threads of the pool
  int pool = 1;   // threads it may use
  int jobs = 1;   // processes that run cells at the same time, this one among them
};

struct CellObserver {
  std::function<void(const std::string& what)> step{};  // something slow begins
  std::function<void(int64_t tokens)> fed{};            // after every pass
  std::function<bool()> interrupted{};                  // asked before every sample
};

/// Loads each model once, for the first cell that needs it, and keeps it.
class CellRunner {
 public:
  CellRunner(const Registry& registry, const ThreadShare& share);
  /// Nothing when interrupted.
  std::optional<FinishedCell> run(const PlannedCell& planned, const CellObserver& observer);

 private:
  struct Runnable {
    std::unique_ptr<Model> model{};
    std::shared_ptr<Engine> engine{};
    int threads = 0;
  };
  const Runnable& loaded(const Json& spec, const CellObserver& observer);

  const Registry& registry_;
  ThreadShare share_;
  std::map<std::string, Runnable> models_{};
};

}  // namespace kvlab
