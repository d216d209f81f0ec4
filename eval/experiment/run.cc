#include "eval/experiment/run.h"

#include <algorithm>

#include "core/error.h"
#include "eval/experiment/cell_runner.h"
#include "eval/experiment/page_data.h"
#include "eval/experiment/record.h"
#include "eval/experiment/report_page.h"
#include "eval/experiment/run_cell.h"
#include "eval/experiment/run_directory.h"
#include "eval/experiment/serve_cells.h"
#include "eval/experiment/summary.h"
#include "eval/experiment/workers.h"
#include "eval/process.h"
#include "eval/promises.h"
#include "eval/threads.h"

namespace kvlab {
namespace {

// Tables of an unfinished run are written again after this many seconds, or twenty times what the
// last writing took.
constexpr double kReportEvery = 5, kReportShare = 20;

class Runner {
 public:
  Runner(const Experiment& experiment, const Registry& registry, const Catalogue& catalogue,
         const RunOptions& options, const RunObserver& observer)
      : experiment_(experiment),
        registry_(registry),
        catalogue_(catalogue),
        options_(options),
        observer_(observer),
        planner_(registry, catalogue,
                 {.allow_vacuous = options.allow_vacuous, .digest_models = options.digest_models}),
        share_{.asked = options.threads,
               .pool = std::max(1, thread_count() / options.jobs),
               .jobs = options.jobs} {}

  RunResult run() {
    const double begin = seconds_now();
    plan();
    open_directory();
    keep_finished();
    if (directory_) {
      record_ =
          start_record(experiment_, planned_, planner_, options_, directory_->load("record.json"));
      write("record.json", record_.dump(2) + "\n");
    }
    run_missing(begin);
    collect();
    if (directory_) {
      end_record(record_, result_, seconds_now() - begin);
      write("record.json", record_.dump(2) + "\n");
      write_reports(result_.cells());
    }
    return std::move(result_);
  }

 private:
  void plan() {
    for (const Cell& cell : experiment_.cells) {
      step("checking " + cell.task.name + " with " + label(cell.method));
      planned_.push_back(planner_.plan(cell, experiment_.folder));
    }
    finished_.resize(planned_.size());
  }

  void open_directory() {
    if (options_.directory) directory_.emplace(*options_.directory);
  }

  /// Cells that are there already; they must belong to what would be run now.
  void keep_finished() {
    if (!directory_) return;
    for (size_t i = 0; i < planned_.size(); ++i) {
      const Cell& cell = *planned_[i].cell;
      const std::optional<Json> json = directory_->load_cell(cell.id);
      if (!json) continue;
      finished_[i] = finished_from(*json, cell);
      ++result_.kept;
      if (options_.allow_mixed) continue;
      check_comparable(finished_[i]->facts, planned_[i].facts,
                       "finished cell " + cell.id + " in " + directory_->path().string(),
                       "the same cell now");
    }
  }

  void run_missing(double begin) {
    begin_ = begin;
    report_at_ = seconds_now() + kReportEvery;
    for (size_t i = 0; i < planned_.size(); ++i) {
      if (!finished_[i]) all_tokens_ += tokens_of(planned_[i]);
    }
    const bool is_whole = options_.jobs > 1 ? run_beside() : run_in_turn();
    if (!is_whole) result_.stopped = "interrupted; run the same command again to go on";
  }

  /// The next cell that is to be run; none when the time is over.
  const PlannedCell* next() {
    while (next_ < planned_.size() && finished_[next_]) ++next_;
    if (next_ == planned_.size()) return nullptr;
    if (experiment_.max_seconds > 0 && seconds_now() - begin_ > experiment_.max_seconds) {
      result_.stopped = "limits.max_seconds of " + Json(experiment_.max_seconds).dump() +
                        " s is over; run the same command again to go on";
      return nullptr;
    }
    return &planned_[next_++];
  }

  /// False: interrupted.
  bool run_in_turn() {
    CellRunner runner(registry_, share_);
    while (const PlannedCell* planned = next()) {
      const std::string what = planned->cell->task.name + ", " + planned->cell->title;
      auto cell = runner.run(*planned, {.step = observer_.step,
                                        .fed = [&](int64_t tokens) { progress(tokens, what); },
                                        .interrupted = observer_.interrupted});
      if (!cell) return false;
      finish(*planned, std::move(*cell));
    }
    return true;
  }

  bool run_beside() {
    KVLAB_CHECK(!options_.worker_command.empty());
    return run_in_workers(
        {.command = options_.worker_command,
         .count = options_.jobs,
         .greeting = worker_greeting(experiment_, share_)},
        {.next = [&] { return next(); },
         .done = [&](const PlannedCell& planned,
                     const Json& json) { finish(planned, checked(planned, json)); },
         .fed = [&](int64_t tokens, const std::string& what) { progress(tokens, what); },
         .step = observer_.step,
         .warn = observer_.warn,
         .interrupted = observer_.interrupted});
  }

  /// A worker's cell: it read the files of the task for itself.
  static FinishedCell checked(const PlannedCell& planned, const Json& json) {
    FinishedCell cell = finished_from(json, *planned.cell);
    check_comparable(cell.facts, planned.facts, "cell " + planned.cell->id + " as a worker ran it",
                     "the same cell as it was planned (a file has changed meanwhile)");
    return cell;
  }

  void finish(const PlannedCell& planned, FinishedCell cell) {
    for (const std::string& warning : cell.outcome.warnings) warn(warning);
    if (directory_) directory_->save_cell(cell.cell->id, to_json(cell));
    finished_[static_cast<size_t>(&planned - planned_.data())] = std::move(cell);
    ++result_.ran;
    if (directory_ && seconds_now() > report_at_) report_at_ = write_reports(cells());
  }

  FinishedCells cells() const {
    FinishedCells all;
    for (const auto& cell : finished_) {
      if (cell) all.push_back(&*cell);
    }
    return all;
  }

  /// Cells whose methods say that they are exact, against their dense cells.
  void hold_to_promises() {
    for (size_t i = 0; i < planned_.size(); ++i) {
      const Cell& cell = *planned_[i].cell;
      const auto& dense = finished_[cell.reference];
      if (!planned_[i].says_exact || cell.is_dense || !finished_[i] || !dense) continue;
      const auto broken = broken_exactness(finished_[i]->outcome, dense->outcome);
      if (!broken) continue;
      result_.broken.push_back(cell.title + " on " + cell.task.name +
                               ": says that it is exact, but " + *broken);
      finished_[i]->outcome.warnings.push_back(result_.broken.back());
      warn(result_.broken.back());
    }
  }

  void collect() {
    hold_to_promises();
    for (auto& cell : finished_) {
      if (!cell) continue;
      result_.nan_samples += cell->outcome.nan_samples();
      result_.finished.push_back(std::move(*cell));
    }
    result_.missing = finished_.size() - result_.finished.size();
  }

  /// Returns when to write them again.
  double write_reports(const FinishedCells& cells) {
    const double begin = seconds_now();
    PageSource page{.results = all_result_lines(experiment_, cells, catalogue_),
                    .samples = all_sample_lines(experiment_, cells, catalogue_),
                    .record = record_};
    record_observed(page.record, cells);
    write("results.jsonl", json_lines(page.results));
    write("summary.csv", csv(page.results));
    write("samples.jsonl", json_lines(page.samples));
    write("summary.md",
          summary_markdown(experiment_.name, cells, catalogue_, options_.allow_mixed));
    write("report.html", report_page(page_data(page, catalogue_)));
    const double end = seconds_now();
    return end + std::max(kReportEvery, kReportShare * (end - begin));
  }

  void write(const std::string& name, std::string_view text) { directory_->write(name, text); }
  void step(const std::string& what) {
    if (observer_.step) observer_.step(what);
  }
  void warn(const std::string& sentence) {
    if (observer_.warn) observer_.warn(sentence);
  }
  void progress(int64_t tokens, const std::string& what) {
    done_tokens_ += tokens;
    if (observer_.progress) observer_.progress(done_tokens_, all_tokens_, what);
  }

  const Experiment& experiment_;
  const Registry& registry_;
  const Catalogue& catalogue_;
  const RunOptions& options_;
  const RunObserver& observer_;
  Planner planner_;
  std::vector<PlannedCell> planned_{};
  std::vector<std::optional<FinishedCell>> finished_{};
  std::optional<RunDirectory> directory_{};
  // By the jobs asked for, not by the cells left: else a run that goes on had other threads.
  const ThreadShare share_;
  size_t next_ = 0;  // no cell before it is to be begun
  double begin_ = 0, report_at_ = 0;
  Json record_{};
  RunResult result_{};
  int64_t done_tokens_ = 0, all_tokens_ = 0;
};

}  // namespace

FinishedCells RunResult::cells() const {
  FinishedCells all;
  for (const FinishedCell& cell : finished) all.push_back(&cell);
  return all;
}

RunResult run_experiment(const Experiment& experiment, const Registry& registry,
                         const Catalogue& catalogue, const RunOptions& options,
                         const RunObserver& observer) {
  KVLAB_REQUIRE(options.jobs >= 1 && options.jobs <= kMostJobs, "E_CONFIG", "--jobs ", options.jobs,
                " is outside 1..", kMostJobs, "; it is the number of processes that run cells, ",
                "each with a model of its own");
  return Runner(experiment, registry, catalogue, options, observer).run();
}

}  // namespace kvlab
