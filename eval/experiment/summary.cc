#include "eval/experiment/summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/schema.h"
#include "eval/experiment/best.h"
#include "eval/experiment/references.h"
#include "eval/pareto.h"
#include "eval/text_table.h"

namespace kvlab {

std::string digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, std::abs(value) >= 1e4 ? "%.0f" : "%.4g", value);
  return text;
}

namespace {

std::string signed_digits(double value) { return (value >= 0 ? "+" : "") + digits(value); }

}  // namespace

std::string delta_text(const Estimate& estimate) {
  if (!estimate.delta) return "–";
  std::string text = signed_digits(*estimate.delta);
  if (estimate.delta_interval) {
    const auto& [low, high, se] = *estimate.delta_interval;
    if (low != 0 || high != 0) text += " [" + signed_digits(low) + ", " + signed_digits(high) + "]";
  }
  return text;
}

std::string value_text(const Estimate& estimate, std::string_view unit) {
  if (unit == "byte") return readable_bytes(estimate.value);
  std::string text = digits(estimate.value);
  if (!estimate.interval) return text;
  const double half = (estimate.interval->high - estimate.interval->low) / 2;
  const bool is_visible = half > 0 && half >= 5e-5 * std::abs(estimate.value);
  if (!is_visible) return text;
  // One number says nothing of an interval that lies on one side.
  const double aside = std::abs(estimate.interval->low + half - estimate.value);
  if (aside > half / 2)
    return text + " [" + digits(estimate.interval->low) + ", " + digits(estimate.interval->high) +
           "]";
  return text + " ± " + digits(half);
}

std::string task_title(const TaskSpec& task, const Catalogue& catalogue) {
  const Schema schema = Schema::parse(catalogue.task(task.name).schema(task.params), task.name);
  std::string given;
  for (const Parameter& parameter : schema.parameters()) {
    if (!task.params.contains(parameter.name)) continue;
    const Json& value = task.params.at(parameter.name);
    const bool is_said_elsewhere = parameter.name == "protocol" || parameter.name == "samples";
    if (is_said_elsewhere || (!parameter.required && value == parameter.standard)) continue;
    given += (given.empty() ? "" : ", ") + parameter.name + " " +
             (value.is_string() ? value.get<std::string>() : canonical(value));
  }
  return task.name + (given.empty() ? "" : " (" + given + ")");
}

namespace {

/// Of what a task says of its data, what changes scores by points when it is wrong.
std::string settings_of(const Json& data) {
  std::string text;
  if (data.contains("bos")) text += " · BOS " + data.at("bos").get<std::string>();
  if (data.contains("chat_template")) {
    const Json& chat = data.at("chat_template");
    text += " · chat template " + (chat.is_null()    ? "none"
                                   : chat == "model" ? "model's"
                                                     : chat.dump());
  }
  if (data.contains("max_new_tokens"))
    text += " · at most " + data.at("max_new_tokens").dump() + " tokens, stop " +
            data.at("stop").dump();
  return text;
}

}  // namespace

std::string heading_of(const FinishedCell& cell, const Catalogue& catalogue) {
  const Cell& c = *cell.cell;
  const int64_t chunk = cell.facts.prefill_chunk;
  const std::string model = c.model.value("builtin", c.model.value("path", std::string("model")));
  return "## " + task_title(c.task, catalogue) + "\n\n" + model + ", " + cell.outcome.dtype +
         " · " + cell.facts.protocol + " · " + cell.facts.read_policy + " · prefill " +
         (chunk == 0 ? "in one pass" : "in chunks of " + std::to_string(chunk)) +
         (c.matrix.query_aware ? " · query in the prefill" : "") + settings_of(cell.data) +
         " · seed " + std::to_string(c.seed) + " · " + std::to_string(cell.outcome.samples.size()) +
         " samples\n\n";
}

namespace {

/// One row's numbers, each by its metric.
class Row {
 public:
  Row(const FinishedCell& cell, const FinishedCell& dense, const Catalogue& catalogue)
      : cell_(cell), dense_(dense), catalogue_(catalogue) {}

  std::optional<Estimate> get(const std::string& name) const {
    return estimate(catalogue_.metric(name), cell_.outcome, dense_.outcome, cell_.cell->is_dense,
                    {.resamples = 2000, .seed = cell_.cell->seed});
  }
  std::string value(const std::string& name) const {
    const auto got = get(name);
    return got ? value_text(*got, catalogue_.metric(name).unit) : "–";
  }
  std::string delta(const std::string& name) const {
    const auto got = get(name);
    return got ? delta_text(*got) : "–";
  }
  /// A difference that feeding alone could have made is no difference.
  std::string against_noise(const std::string& name) const {
    const auto got = get(name), noise = get("noise_floor");
    if (!got || cell_.cell->is_dense) return "–";
    return noise && std::abs(got->value) <= noise->value ? "≤ noise" : value(name);
  }
  std::string times(const std::string& name) const {
    const auto got = get(name);
    if (cell_.cell->is_dense) return "1x";
    if (!got || !got->dense || *got->dense <= 0) return "–";
    return digits(got->value / *got->dense) + "x";
  }

 private:
  const FinishedCell &cell_, &dense_;
  const Catalogue& catalogue_;
};

bool has_metric(const FinishedCell& cell, std::string_view name) {
  return std::find(cell.metrics.begin(), cell.metrics.end(), name) != cell.metrics.end();
}

/// The place of the row whose headline is bold.
std::optional<size_t> bold_row(const FinishedCells& cells, const Catalogue& catalogue) {
  const std::string& headline = cells[0]->metrics.at(0);
  std::vector<double> values;
  for (const FinishedCell* cell : cells) {
    const auto got = Row(*cell, *cells[0], catalogue).get(headline);
    values.push_back(got ? got->value : std::numeric_limits<double>::quiet_NaN());
  }
  return distinctly_best(cells, catalogue.metric(headline), values);
}

TextTable table(const FinishedCells& cells, const Catalogue& catalogue) {
  const FinishedCell& dense = *cells[0];
  const std::string headline = dense.metrics.at(0);
  const bool has_noise = has_metric(dense, "noise_floor");
  const std::string second = has_noise                  ? "delta_nll"
                             : dense.metrics.size() > 1 ? dense.metrics[1]
                                                        : headline;
  const bool has_kl = Row(dense, dense, catalogue).get("kl").has_value();
  std::vector<std::string> header{"method",       headline + dense.protocol_suffix,
                                  "Δ to dense",   second,
                                  "cr",           "bits/element",
                                  "cache",        "prefill tok/s",
                                  "decode tok/s", "vs_dense"};
  if (has_kl) header.insert(header.begin() + 4, "KL");
  TextTable table(header);
  const std::optional<size_t> bold = bold_row(cells, catalogue);
  for (size_t i = 0; i < cells.size(); ++i) {
    const FinishedCell* cell = cells[i];
    const Row row(*cell, dense, catalogue);
    std::string score = row.value(headline);
    if (bold == i) score.insert(0, "**").append("**");
    const bool decodes = row.get("decode_tok_s").has_value();
    const int64_t nan = cell->outcome.nan_samples();
    std::vector<std::string> texts{
        cell->cell->title + (nan > 0 ? " (" + std::to_string(nan) + " samples NaN)" : ""),
        std::move(score),
        row.delta(headline),
        has_noise ? row.against_noise(second) : row.value(second),
        row.value("cr"),
        row.value("bits_per_element"),
        row.value("cache_bytes"),
        row.value("prefill_tok_s"),
        row.value("decode_tok_s"),
        row.times(decodes ? "decode_tok_s" : "prefill_tok_s")};
    if (has_kl) texts.insert(texts.begin() + 4, row.value("kl"));
    table.add(std::move(texts));
  }
  return table;
}

/// A row per method that ran with several settings: what they trade, dense the first point of each
/// curve.  Nothing where more of the headline is not better.
std::string tradeoffs(const FinishedCells& cells, const Catalogue& catalogue) {
  const FinishedCell& dense = *cells[0];
  const std::string headline = dense.metrics.at(0);
  if (catalogue.metric(headline).better != Better::higher) return {};
  const auto point = [&](const FinishedCell& cell) -> std::optional<Tradeoff> {
    const Row row(cell, dense, catalogue);
    const auto cr = row.get("cr"), score = row.get(headline);
    if (!cr || !score) return std::nullopt;
    return Tradeoff{cr->value, score->value};
  };
  const std::optional<Tradeoff> first = point(dense);
  if (!first) return {};
  std::map<std::string, std::vector<Tradeoff>> methods;
  for (const FinishedCell* cell : cells) {
    if (cell->cell->is_dense) continue;
    if (const auto one = point(*cell)) methods[label(cell->cell->method)].push_back(*one);
  }
  const std::vector<Curve> all = curves(*first, methods);
  if (all.empty()) return {};
  TextTable table({"method", "settings", "on the front", "cr_at_1pct", "pareto_auc"});
  const auto shown = [](const std::optional<double>& x) { return x ? digits(*x) : "–"; };
  for (const Curve& curve : all)
    table.add({curve.method, std::to_string(curve.settings), std::to_string(curve.on_front),
               shown(curve.cr_at_1pct), shown(curve.mean)});
  return "\n" + table.markdown();
}

/// Differences inside one table, or nothing.
std::string mixed_note(const FinishedCells& cells, bool allow_mixed) {
  std::string note;
  for (const FinishedCell* cell : cells) {
    try {
      check_comparable(cell->facts, cells[0]->facts, cell->cell->title, cells[0]->cell->title);
    } catch (const Error& error) {
      if (!allow_mixed) throw;
      note += "\nMixed: " + std::string(error.message()) + "\n";
    }
  }
  return note;
}

/// Values that cells say of how they were run, ascending.
std::set<int> provenance(const FinishedCells& cells, const char* name) {
  std::set<int> values;
  for (const FinishedCell* cell : cells) values.insert(cell->provenance.value(name, 1));
  return values;
}

/// What numbers owe to how cells were run, or nothing.
std::string circumstances_note(const FinishedCells& cells) {
  std::string note;
  if (const int jobs = *provenance(cells, "jobs").rbegin(); jobs > 1)
    note += "\nCells ran " + std::to_string(jobs) +
            " at a time: their times are not comparable with those of a run with one job.\n";
  const std::set<int> threads = provenance(cells, "threads");
  if (threads.size() > 1)
    note += "\nCells of this table ran on " + std::to_string(*threads.begin()) + " and " +
            std::to_string(*threads.rbegin()) +
            " threads: sums are added in another order, so differences in the last digits say " +
            "nothing.\n";
  return note;
}

/// Published numbers of the same kind of task, a few, or nothing.  A quotation: Markdown prints it
/// in grey.
std::string reported_elsewhere(const FinishedCells& cells) {
  constexpr size_t kMost = 6;
  std::set<std::string> methods;
  for (const FinishedCell* cell : cells)
    for (const MethodSpec& spec : cell->cell->method) methods.insert(spec.name);
  auto rows = references().concerning(cells[0]->cell->task.name, methods);
  if (rows.empty()) return {};
  const size_t left_out = rows.size() - std::min(rows.size(), kMost);
  rows.resize(rows.size() - left_out);
  std::string text = std::string(kReportedElsewhere) + "\n\n" + references_markdown(rows);
  if (left_out > 0) text += "\n" + std::to_string(left_out) + " more: `kvlab info --references`\n";
  std::string quotation = "\n";
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    quotation += line.empty() ? ">\n" : "> " + line + "\n";
  return quotation;
}

}  // namespace

std::string readable_bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (std::abs(bytes) >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return digits(bytes) + " " + kUnits[unit];
}

std::string summary_markdown(const std::string& title, const FinishedCells& cells,
                             const Catalogue& catalogue, bool allow_mixed) {
  std::vector<std::string> order;  // of questions, as they came
  std::map<std::string, FinishedCells> by_question;
  for (const FinishedCell* cell : cells) {
    const std::string key = question_of(describe(*cell->cell));
    if (!by_question.contains(key)) order.push_back(key);
    by_question[key].push_back(cell);
  }
  std::string text = "# " + title + "\n";
  for (const std::string& key : order) {
    const auto& rows = by_question.at(key);
    if (!rows[0]->cell->is_dense) continue;  // not finished: nothing to compare with yet
    text += "\n" + heading_of(*rows[0], catalogue) + table(rows, catalogue).markdown() +
            tradeoffs(rows, catalogue) + mixed_note(rows, allow_mixed) + circumstances_note(rows) +
            reported_elsewhere(rows);
  }
  return text;
}

}  // namespace kvlab
