#include "eval/experiment/cell_runner.h"

#include "eval/bandwidth.h"
#include "eval/experiment/record.h"
#include "eval/experiment/run_cell.h"
#include "eval/process.h"
#include "eval/threads.h"
#include "kernels/cpu_engine.h"

namespace kvlab {

CellRunner::CellRunner(const Registry& registry, const ThreadShare& share)
    : registry_(registry), share_(share) {}

std::optional<FinishedCell> CellRunner::run(const PlannedCell& planned,
                                            const CellObserver& observer) {
  const Runnable& runnable = loaded(planned.model, observer);
  set_thread_count(runnable.threads);
  const double begin = seconds_now();  // loading is no cell's own
  const std::string started = utc_now();
  std::optional<CellOutcome> outcome = run_cell(planned, {.model = runnable.model.get(),
                                                          .registry = &registry_,
                                                          .engine = runnable.engine,
                                                          .fed = observer.fed,
                                                          .interrupted = observer.interrupted});
  if (!outcome) return std::nullopt;
  outcome->read_gb_s = read_gb_s(runnable.threads);
  return FinishedCell{.cell = planned.cell,
                      .protocol_suffix = planned.work->metric_suffix,
                      .metrics = planned.work->metrics,
                      .facts = planned.facts,
                      .data = planned.work->facts,
                      .outcome = std::move(*outcome),
                      .provenance = {{"started", started},
                                     {"seconds", seconds_now() - begin},
                                     {"build", describe_build()},
                                     {"threads", thread_count()},
                                     {"jobs", share_.jobs}}};
}

const CellRunner::Runnable& CellRunner::loaded(const Json& spec, const CellObserver& observer) {
  const std::string key = canonical(spec);
  const auto found = models_.find(key);
  if (found != models_.end()) return found->second;
  if (observer.step)
    observer.step("loading " + spec.value("path", spec.value("builtin", std::string("the model"))));
  Runnable one{.model = load_model(spec), .threads = share_.asked};
  if (one.threads == 0) one.threads = useful_threads(share_.pool, one.model->weight_bytes());
  one.engine = make_cpu_engine({.threads = one.threads});
  return models_.emplace(key, std::move(one)).first->second;
}

}  // namespace kvlab
