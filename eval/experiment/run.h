#pragma once
// An experiment from its config to its run directory.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/experiment/plan.h"
#include "eval/experiment/report.h"

namespace kvlab {

/// Told while a run goes on; terminals and signals are the caller's business.
struct RunObserver {
  /// A step begins of which nothing is known but its name.
  std::function<void(const std::string& what)> step{};
  /// Tokens fed of those to be fed in all.
  std::function<void(int64_t done, int64_t all, const std::string& what)> progress{};
  std::function<void(const std::string& sentence)> warn{};
  /// Asked between samples; true: stop and keep what is finished.
  std::function<bool()> interrupted{};
};

struct RunOptions {
  std::optional<std::filesystem::path> directory{};  // absent: nothing is kept
  bool allow_vacuous = false, allow_mixed = false;
  bool digest_models = true;  // needed where results are kept
  int threads = 0;            // 0: useful_threads of LibTorch's pool, of each process' share
  int jobs = 1;               // processes that run cells; 1: this one, more: workers
  std::vector<std::string> worker_command{};  // a program that ends in serve_cells()
  std::vector<std::string> argv{};            // for the record
};

struct RunResult {
  std::vector<FinishedCell> finished{};  // in the order of the expansion
  size_t ran = 0, kept = 0, missing = 0;
  int64_t nan_samples = 0;
  std::vector<std::string> broken{};  // promises of methods, a sentence each
  std::string stopped{};              // why cells are missing; empty: none is
  FinishedCells cells() const;
};

/// More processes than any machine has cores are a slip of the finger.
inline constexpr int kMostJobs = 1024;

/// Runs what is not finished yet.  Everything that can be refused is refused before a weight is
/// read and before a file is written.  Cells refer to those of `experiment`.  With several jobs
/// this process plans, keeps and reports; each of them has a share of the threads, and only that
/// share can make their results differ from one job's.  E_CONFIG: jobs outside 1..kMostJobs.
RunResult run_experiment(const Experiment& experiment, const Registry& registry,
                         const Catalogue& catalogue, const RunOptions& options,
                         const RunObserver& observer = {});

}  // namespace kvlab
