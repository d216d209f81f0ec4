#include "eval/experiment/compare.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "eval/experiment/report.h"
#include "eval/experiment/summary.h"
#include "eval/text_table.h"

namespace kvlab {
namespace {

struct StoredCell {
  Cell cell{};
  FinishedCell finished{};
  std::string question{}, method{}, artifacts{};
};

/// Takes what is in a described method's artifacts out of it, and returns it.
std::string cut_artifacts(Json& method) {
  Json digests = Json::array();
  for (Json& stage : method) {
    digests.push_back(stage.value("artifact_sha256", ""));
    stage.erase("artifact_sha256");
  }
  return canonical(digests);
}

/// From a file of cells/, which says itself what it is of.
std::unique_ptr<StoredCell> stored_cell(const Json& file) {
  auto stored = std::make_unique<StoredCell>();
  const Json& what = file.at("cell");
  Cell& cell = stored->cell;
  cell.id = file.at("id");
  cell.title = file.at("title");
  cell.model = what.at("model");
  cell.task = {what.at("task").at("builtin"), what.at("task")};
  cell.task.params.erase("builtin");
  cell.matrix.query_aware = what.at("matrix").at("query_aware");
  cell.seed = what.at("seed");
  stored->finished = finished_from(file, cell);
  stored->question = question_of(what);
  Json method = what.at("method");
  stored->artifacts = cut_artifacts(method);
  stored->method = canonical(method);
  return stored;
}

using StoredCells = std::vector<std::unique_ptr<StoredCell>>;

StoredCells read_cells(const std::filesystem::path& run) {
  const std::filesystem::path folder = run / "cells";
  std::error_code error;
  StoredCells cells;
  for (const auto& file : std::filesystem::directory_iterator(folder, error)) {
    if (file.path().extension() != ".json") continue;
    try {
      cells.push_back(stored_cell(read_json(file.path())));
    } catch (const nlohmann::json::exception& broken) {
      fail("E_FORMAT", file.path().string(), ": not a cell as kvlab writes it: ", broken.what());
    }
  }
  KVLAB_REQUIRE(!cells.empty(), "E_FILE", run.string(),
                ": no finished cells; give the run directory of a `kvlab eval`");
  std::ranges::sort(cells, {},
                    [](const auto& cell) { return std::pair(cell->question, cell->cell.title); });
  return cells;
}

void keep_method(StoredCells& cells, const std::string& title, const std::filesystem::path& run) {
  if (title.empty()) return;
  std::set<std::string> titles;
  for (const auto& cell : cells) titles.insert(cell->cell.title);
  if (!titles.contains(title)) {
    const std::vector<std::string> known(titles.begin(), titles.end());
    fail("E_UNKNOWN", run.string(), ": no method `", title, "`; did you mean `",
         nearest_name(title, known), "`?");
  }
  std::erase_if(cells, [&](const auto& cell) { return cell->cell.title != title; });
}

std::string name_of(const StoredCell& cell) {
  return cell.cell.title + " on " + cell.cell.task.name;
}

using Partners = std::map<const StoredCell*, const StoredCell*>;

/// For cells of `right` those of `left` that they are held against: the same question and, unless
/// methods are compared `across`, the same method.  Where a method was prepared again, cells with
/// the same artifacts come first.
Partners partners_of(const StoredCells& right, const StoredCells& left, bool across) {
  const auto loose = [&](const StoredCell& cell) {
    return across ? cell.question : cell.question + cell.method;
  };
  std::map<std::string, const StoredCell*> waiting;  // by key, then artifacts
  for (const auto& cell : left) waiting[loose(*cell) + cell->artifacts] = cell.get();
  Partners partners;
  const auto pair = [&](const StoredCell& cell, auto found) {
    partners[&cell] = found->second;
    waiting.erase(found);
  };
  for (const auto& cell : right) {
    const auto same = waiting.find(loose(*cell) + cell->artifacts);
    if (same != waiting.end()) pair(*cell, same);
  }
  for (const auto& cell : right) {
    const auto other = waiting.lower_bound(loose(*cell));
    const bool is_like = other != waiting.end() && other->first.starts_with(loose(*cell));
    if (is_like && !partners.contains(cell.get())) pair(*cell, other);
  }
  return partners;
}

/// "quant", "quant → window", "slim (another artifact)"
std::string method_of(const StoredCell& a, const StoredCell& b, bool across) {
  if (across) return a.cell.title + " → " + b.cell.title;
  return b.cell.title + (a.artifacts == b.artifacts ? "" : " (another artifact)");
}

void check_pair(const StoredCell& a, const StoredCell& b, bool allow_mixed) {
  if (!allow_mixed) {
    check_comparable(a.finished.facts, b.finished.facts, a.cell.title + " of the first run",
                     b.cell.title + " of the second");
  }
  const auto ids = [](const StoredCell& cell) {
    std::vector<std::string> all;
    for (const Outcome& sample : cell.finished.outcome.samples) all.push_back(sample.id);
    return all;
  };
  KVLAB_REQUIRE(ids(a) == ids(b), "E_INCOMPARABLE", "compare: the samples of ", b.cell.title,
                " are not those of ", a.cell.title,
                " in the first run; run both with one version of the generators");
}

/// Whether a metric is a difference to dense itself: of one run alone it says nothing.
bool is_difference(const Metric& metric, const CellOutcome& cell) {
  return metric.shares && std::ranges::all_of(cell.samples, [&](const Outcome& sample) {
           return metric.shares(sample, nullptr).empty();
         });
}

std::vector<const Metric*> metrics_of(const StoredCell& cell, const CompareOptions& options,
                                      const Catalogue& catalogue) {
  std::vector<const Metric*> metrics;
  for (const std::string& name : options.metrics) metrics.push_back(&catalogue.metric(name));
  if (!metrics.empty()) return metrics;
  for (const std::string& name : cell.finished.metrics) {
    const Metric& metric = catalogue.metric(name);
    if (metric.better != Better::neither && !is_difference(metric, cell.finished.outcome))
      metrics.push_back(&metric);
  }
  metrics.push_back(&catalogue.metric("cr"));
  return metrics;
}

double tolerance_of(const std::string& metric, const CompareOptions& options) {
  const auto own = options.tolerances.find(metric);
  return own == options.tolerances.end() ? options.tolerance : own->second;
}

int verdict_of(const MetricComparison& line, double alpha) {
  if (line.better == Better::neither || line.timing || !line.estimate.delta) return 0;
  const double gain = line.better == Better::higher ? *line.estimate.delta : -*line.estimate.delta;
  if (std::abs(gain) <= line.tolerance) return 0;
  if (line.p_holm && *line.p_holm >= alpha) return 0;
  return gain > 0 ? 1 : -1;
}

void judge(RunComparison& comparison, double alpha) {
  std::vector<double> p;
  for (const MetricComparison& line : comparison.lines)
    if (line.estimate.p) p.push_back(*line.estimate.p);
  const std::vector<double> corrected = holm(p);
  size_t next = 0;
  for (MetricComparison& line : comparison.lines) {
    if (line.estimate.p) line.p_holm = corrected[next++];
    line.verdict = verdict_of(line, alpha);
  }
}

}  // namespace

bool RunComparison::is_worse() const {
  return std::ranges::any_of(lines, [](const auto& line) { return line.verdict < 0; });
}

RunComparison compare_runs(const std::filesystem::path& a, const std::filesystem::path& b,
                           const CompareOptions& options, const Catalogue& catalogue) {
  StoredCells left = read_cells(a), right = read_cells(b);
  keep_method(left, options.method_a, a);
  keep_method(right, options.method_b, b);
  const bool across = !options.method_a.empty() && !options.method_b.empty();
  const Partners partners = partners_of(right, left, across);

  RunComparison comparison;
  std::set<const StoredCell*> paired;
  for (const auto& cell : right) {
    const auto found = partners.find(cell.get());
    if (found == partners.end()) {
      comparison.added.push_back(name_of(*cell));
      continue;
    }
    const StoredCell& base = *found->second;
    paired.insert(&base);
    check_pair(base, *cell, options.allow_mixed);
    comparison.nan_samples +=
        base.finished.outcome.nan_samples() + cell->finished.outcome.nan_samples();
    const std::vector<const Metric*> metrics = metrics_of(*cell, options, catalogue);
    for (const Metric* metric : metrics_of(base, options, catalogue))
      if (std::ranges::find(metrics, metric) == metrics.end())
        comparison.missing.push_back(name_of(base) + ": " + metric->name);
    for (const Metric* metric : metrics) {
      KVLAB_REQUIRE(!is_difference(*metric, cell->finished.outcome), "E_CONFIG",
                    "compare: ", metric->name, " says nothing about these samples by themselves; ",
                    "name what it is made of, such as nll");
      const auto got = estimate(*metric, cell->finished.outcome, base.finished.outcome, false,
                                {.seed = cell->cell.seed});
      if (!got) continue;
      comparison.lines.push_back({.question = cell->question,
                                  .heading = heading_of(cell->finished, catalogue),
                                  .method = method_of(base, *cell, across),
                                  .metric = metric->name,
                                  .unit = metric->unit,
                                  .better = metric->better,
                                  .timing = metric->timing,
                                  .estimate = *got,
                                  .tolerance = tolerance_of(metric->name, options)});
    }
  }
  for (const auto& cell : left)
    if (!paired.contains(cell.get())) comparison.missing.push_back(name_of(*cell));
  KVLAB_REQUIRE(!comparison.lines.empty(), "E_INCOMPARABLE", "compare: ", a.string(), " and ",
                b.string(), " have no question and method in common; name two methods to compare ",
                "one with the other");
  judge(comparison, options.alpha);
  return comparison;
}

std::string comparison_markdown(const RunComparison& comparison) {
  std::string text;
  for (size_t i = 0; i < comparison.lines.size();) {
    const std::string& question = comparison.lines[i].question;
    text += comparison.lines[i].heading;
    TextTable table({"method", "metric", "A", "B", "B - A", "p", "p (Holm)", "verdict"});
    for (; i < comparison.lines.size() && comparison.lines[i].question == question; ++i) {
      const MetricComparison& line = comparison.lines[i];
      const Estimate& got = line.estimate;
      table.add({line.method, line.metric, got.dense ? digits(*got.dense) : "–", digits(got.value),
                 delta_text(got), got.p ? digits(*got.p) : "–",
                 line.p_holm ? digits(*line.p_holm) : "–",
                 line.verdict < 0   ? "worse"
                 : line.verdict > 0 ? "better"
                                    : "–"});
    }
    text += table.markdown() + "\n";
  }
  for (const std::string& one : comparison.added) text += "In B alone: " + one + "\n";
  for (const std::string& one : comparison.missing) text += "**Missing in B**: " + one + "\n";
  return text;
}

Json to_json(const RunComparison& comparison) {
  Json lines = Json::array();
  for (const MetricComparison& line : comparison.lines) {
    const Estimate& got = line.estimate;
    Json json{{"question", Json::parse(line.question)},
              {"method", line.method},
              {"metric", line.metric},
              {"unit", line.unit},
              {"better", name_of(line.better)},
              {"b", got.value},
              {"tolerance", line.tolerance},
              {"verdict", line.verdict < 0   ? "worse"
                          : line.verdict > 0 ? "better"
                                             : "same"}};
    if (got.dense) json["a"] = *got.dense;
    if (got.delta) json["delta"] = *got.delta;
    if (got.delta_interval) json["delta_ci"] = {got.delta_interval->low, got.delta_interval->high};
    if (got.p) json["p"] = *got.p;
    if (line.p_holm) json["p_holm"] = *line.p_holm;
    lines.push_back(std::move(json));
  }
  return {{"worse", comparison.is_worse()},
          {"nan_samples", comparison.nan_samples},
          {"comparisons", std::move(lines)},
          {"missing", comparison.missing},
          {"added", comparison.added}};
}

}  // namespace kvlab
