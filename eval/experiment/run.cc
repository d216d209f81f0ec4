#include "eval/experiment/run.h"

#include <algorithm>

#include "core/error.h"
#include "eval/experiment/record.h"
#include "eval/experiment/run_cell.h"
#include "eval/experiment/run_directory.h"
#include "eval/experiment/summary.h"
#include "eval/model.h"
#include "eval/process.h"
#include "eval/threads.h"
#include "kernels/cpu_engine.h"

namespace kvlab {
namespace {

// Tables of an unfinished run are written again after this many seconds, or twenty times what the
// last writing took.
constexpr double kReportEvery = 5, kReportShare = 20;

/// A model with the threads it runs on.
struct Runnable {
  std::unique_ptr<Model> model{};
  std::shared_ptr<Engine> engine{};
  int threads = 0;
};

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
                 {.allow_vacuous = options.allow_vacuous, .digest_models = options.digest_models}) {
  }

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
    if (directory_) write_reports();
    collect();
    if (directory_) {
      end_record(record_, result_, seconds_now() - begin);
      write("record.json", record_.dump(2) + "\n");
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
    for (size_t i = 0; i < planned_.size(); ++i) {
      if (!finished_[i]) all_tokens_ += tokens_of(planned_[i]);
    }
    double report_at = seconds_now() + kReportEvery;
    for (size_t i = 0; i < planned_.size() && result_.stopped.empty(); ++i) {
      if (finished_[i]) continue;
      if (experiment_.max_seconds > 0 && seconds_now() - begin > experiment_.max_seconds) {
        result_.stopped = "limits.max_seconds of " + Json(experiment_.max_seconds).dump() +
                          " s is over; run the same command again to go on";
        break;
      }
      run_one(i);
      if (directory_ && seconds_now() > report_at) report_at = write_reports();
    }
  }

  void run_one(size_t i) {
    const PlannedCell& planned = planned_[i];
    const std::string what = planned.cell->task.name + ", " + planned.cell->title;
    const double begin = seconds_now();
    const std::string started = utc_now();
    const Runnable& runnable = loaded(planned.model);
    set_thread_count(runnable.threads);
    std::optional<CellOutcome> outcome =
        run_cell(planned, {.model = runnable.model.get(),
                           .registry = &registry_,
                           .engine = runnable.engine,
                           .fed = [&](int64_t tokens) { progress(tokens, what); },
                           .interrupted = observer_.interrupted});
    if (!outcome) {
      result_.stopped = "interrupted; run the same command again to go on";
      return;
    }
    for (const std::string& warning : outcome->warnings) warn(warning);
    finished_[i] = FinishedCell{.cell = planned.cell,
                                .protocol_suffix = planned.work->metric_suffix,
                                .metrics = planned.work->metrics,
                                .facts = planned.facts,
                                .data = planned.work->facts,
                                .outcome = std::move(*outcome),
                                .provenance = {{"started", started},
                                               {"seconds", seconds_now() - begin},
                                               {"build", describe_build()},
                                               {"threads", thread_count()}}};
    if (directory_) directory_->save_cell(planned.cell->id, to_json(*finished_[i]));
    ++result_.ran;
  }

  const Runnable& loaded(const Json& spec) {
    const std::string key = canonical(spec);
    const auto found = models_.find(key);
    if (found != models_.end()) return found->second;
    step("loading " + spec.value("path", spec.value("builtin", std::string("the model"))));
    Runnable one{.model = load_model(spec), .threads = options_.threads};
    if (one.threads == 0) one.threads = useful_threads(pool_, one.model->weight_bytes());
    one.engine = make_cpu_engine({.threads = one.threads});
    return models_.emplace(key, std::move(one)).first->second;
  }

  FinishedCells cells() const {
    FinishedCells all;
    for (const auto& cell : finished_) {
      if (cell) all.push_back(&*cell);
    }
    return all;
  }

  void collect() {
    for (auto& cell : finished_) {
      if (!cell) continue;
      result_.nan_samples += cell->outcome.nan_samples();
      result_.finished.push_back(std::move(*cell));
    }
    result_.missing = finished_.size() - result_.finished.size();
  }

  /// Returns when to write them again.
  double write_reports() {
    const double begin = seconds_now();
    const std::vector<Json> results = all_result_lines(experiment_, cells(), catalogue_);
    write("results.jsonl", json_lines(results));
    write("summary.csv", csv(results));
    write("samples.jsonl", json_lines(all_sample_lines(experiment_, cells(), catalogue_)));
    write("summary.md",
          summary_markdown(experiment_.name, cells(), catalogue_, options_.allow_mixed));
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
  std::map<std::string, Runnable> models_{};
  const int pool_ = thread_count();
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
  return Runner(experiment, registry, catalogue, options, observer).run();
}

}  // namespace kvlab
