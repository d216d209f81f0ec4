#pragma once
// Cells in processes of their own, several at a time.

#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/experiment/plan.h"

namespace kvlab {

struct WorkerSetup {
  std::vector<std::string> command{};  // a program that ends in serve_cells(), and its arguments
  int count = 1;                       // at most so many at a time
  Json greeting{};
};

/// Where cells come from and what becomes of them; all of it is called in the caller's thread.
struct CellTraffic {
  std::function<const PlannedCell*()> next{};  // null: no further cell is to be begun
  std::function<void(const PlannedCell& cell, const Json& finished)> done{};
  std::function<void(int64_t tokens, const std::string& what)> fed{};
  std::function<void(const std::string& what)> step{};
  std::function<void(const std::string& sentence)> warn{};
  std::function<bool()> interrupted{};  // asked ten times a second
};

/// Gives the next cell to whichever worker is free until there is none left.  False: interrupted,
/// and cells that were running are lost.  No worker is left when it returns or throws.
///
/// A cell that fails, or whose worker dies (E_WORKER), ends the handing out; what other workers are
/// running is finished and kept before the first such error is thrown.
bool run_in_workers(const WorkerSetup& setup, const CellTraffic& traffic);

}  // namespace kvlab
