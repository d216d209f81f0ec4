#include "eval/selftest.h"

#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "eval/model.h"

namespace kvlab {
namespace {

/// ln(1 + 31 e^-12), what the construction of the model gives, and 0.2 % for rounding on the way.
constexpr double kRecallNll = 1.9045e-4, kRecallTolerance = 4e-7;

Json config_for(const std::string& method) {
  return {{"schema", kConfigSchema},
          {"seed", 7},
          {"model", {{"builtin", "recall2"}}},
          {"tasks",
           {{{"builtin", "mqar"}, {"pairs", 8}, {"context", 128}, {"samples", 4}},
            {{"builtin", "copy"}, {"tokens", 16}, {"samples", 4}}}},
          {"methods", {method}}};
}

std::string digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

double metric(const FinishedCell& cell, const FinishedCell& dense, const char* name) {
  const auto got =
      estimate(catalogue().metric(name), cell.outcome, dense.outcome, true, {.resamples = 2});
  KVLAB_REQUIRE(got, "E_NONFINITE", cell.cell->title, ": every sample met NaN");
  return got->value;
}

Check judge_dense(const FinishedCell& cell) {
  const std::string headline = cell.metrics.at(0);
  const double value = metric(cell, cell, headline.c_str());
  Check check{.name = cell.cell->title + ", " + cell.cell->task.name,
              .passed = value == 1,
              .detail = headline + " " + digits(value) + " (must be 1)"};
  if (cell.outcome.samples[0].nll.empty()) return check;
  const double nll = metric(cell, cell, "nll");
  check.passed = check.passed && std::abs(nll - kRecallNll) < kRecallTolerance;
  check.detail += ", nll " + digits(nll) + " (must be " + digits(kRecallNll) + ")";
  return check;
}

bool equal_scores(const Outcome& a, const Outcome& b) {
  return a.nll == b.nll && a.predicted == b.predicted && a.generated == b.generated;
}

Check judge(const FinishedCell& cell, const FinishedCell& dense, bool is_exact) {
  const std::string headline = cell.metrics.at(0);
  Check check{.name = cell.cell->title + ", " + cell.cell->task.name,
              .passed = cell.outcome.nan_samples() == 0,
              .detail = headline + " " + digits(metric(cell, dense, headline.c_str())) + ", cr " +
                        digits(metric(cell, dense, "cr"))};
  if (!is_exact) return check;
  for (size_t i = 0; i < cell.outcome.samples.size(); ++i) {
    check.passed &= equal_scores(cell.outcome.samples[i], dense.outcome.samples[i]);
  }
  check.detail += ", exact (must equal dense bit for bit)";
  return check;
}

std::vector<Check> check_method(const std::string& name, const Registry& registry,
                                const Catalogue& catalogue, const RunOptions& options,
                                const RunObserver& observer) {
  const Experiment experiment = parse_experiment(config_for(name), {}, registry, catalogue);
  const Composition composition =
      compose(parse_methods(name, registry), shape_of(experiment.cells[0].model), registry, nullptr,
              Dtype::f32);
  const RunResult result = run_experiment(experiment, registry, catalogue, options, observer);
  std::vector<Check> checks;
  for (const FinishedCell& cell : result.finished) {
    const FinishedCell& dense = result.finished.at(cell.cell->reference);
    if (!cell.cell->is_dense) checks.push_back(judge(cell, dense, composition.capabilities.exact));
    if (cell.cell->is_dense && name == kReference) checks.push_back(judge_dense(cell));
  }
  return checks;
}

}  // namespace

std::vector<Check> selftest(const Registry& registry, const Catalogue& catalogue, int threads,
                            const RunObserver& observer) {
  const RunOptions options{.digest_models = false, .threads = threads};
  std::vector<Check> all;
  for (const std::string& name : registry.methods()) {
    try {
      for (Check& check : check_method(name, registry, catalogue, options, observer)) {
        all.push_back(std::move(check));
      }
    } catch (const Error& error) {
      // It needs an artifact, or refuses these models by a code of its own.
      const bool left_out = error.code() == "E_STALE_ARTIFACT" || error.code() == "E_CONFIG" ||
                            !error.code().starts_with("E_");
      all.push_back({name, left_out, (left_out ? "left out: " : "") + std::string(error.what())});
    }
  }
  return all;
}

}  // namespace kvlab
