#include "eval/experiment/report.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "eval/experiment/best.h"
#include "eval/nll.h"

namespace kvlab {
namespace {

constexpr size_t kMostShown = 64;  // tokens of a prediction in samples.jsonl

std::string printed_name(const Metric& metric, const FinishedCell& cell) {
  return metric.in_name ? metric.name + cell.protocol_suffix : metric.name;
}

const Metric& printed_metric(const std::string& printed, const FinishedCell& cell,
                             const Catalogue& catalogue) {
  const auto found = catalogue.metrics().find(printed);
  if (found != catalogue.metrics().end()) return found->second;
  return catalogue.metric(printed.substr(0, printed.size() - cell.protocol_suffix.size()));
}

Json pair_json(const Interval& interval) { return {interval.low, interval.high}; }

/// What every line of a cell says.
Json line_head(const FinishedCell& cell) {
  const Cell& c = *cell.cell;
  Json params = Json::array();
  for (const MethodSpec& spec : c.method) params.push_back(spec.params);
  const int64_t context = cell.outcome.samples.empty() ? 0 : cell.outcome.samples[0].end.tokens;
  Json head = to_json(cell.facts);
  head.update({{"schema", "kvlab/1"},
               {"run", c.id},
               {"model", c.model},
               {"method", label(c.method)},
               {"title", c.title},
               {"params", params.size() == 1 ? params[0] : params},
               {"task", c.task.name},
               {"task_params", c.task.params},
               {"query_aware", c.matrix.query_aware},
               {"seed", c.seed},
               {"context", context},
               {"dtype", cell.outcome.dtype}});
  if (Json artifacts = artifacts_of(c); !artifacts.empty())
    head["artifacts"] = std::move(artifacts);
  return head;
}

void put(Json& line, const char* key, const std::optional<double>& value) {
  if (value) line[key] = *value;
}

void put_estimate(Json& line, const Estimate& estimate) {
  line["value"] = estimate.value;
  if (estimate.interval) {
    line["ci"] = pair_json(*estimate.interval);
    line["se"] = estimate.interval->se;
  }
  put(line, "dense", estimate.dense);
  put(line, "delta", estimate.delta);
  if (estimate.delta_interval) line["delta_ci"] = pair_json(*estimate.delta_interval);
  put(line, "p", estimate.p);
}

std::vector<const Metric*> metrics_of(const FinishedCell& cell, const Catalogue& catalogue) {
  std::vector<const Metric*> all;
  for (const std::string& name : cell.metrics) all.push_back(&catalogue.metric(name));
  for (const auto& [name, metric] : catalogue.metrics()) {
    if (metric.where_measured && std::ranges::find(cell.metrics, name) == cell.metrics.end()) {
      all.push_back(&metric);
    }
  }
  for (const bool timing : {false, true}) {
    for (const auto& [name, metric] : catalogue.metrics()) {
      if (metric.always && metric.timing == timing) all.push_back(&metric);
    }
  }
  return all;
}

std::optional<Estimate> estimate_of(const Metric& metric, const FinishedCell& cell,
                                    const FinishedCell& dense) {
  return estimate(metric, cell.outcome, dense.outcome, cell.cell->is_dense,
                  {.seed = cell.cell->seed});
}

/// What was answered: generated text, or the arg max at the labels.
Json prediction(const Outcome& outcome) {
  if (!outcome.texts.empty()) return outcome.texts;
  if (!outcome.answers.empty()) return outcome.generated;
  return outcome.labels.size() <= kMostShown ? Json(outcome.predicted) : Json();
}

Json answers(const Outcome& outcome) {
  if (!outcome.texts.empty()) return outcome.references;
  return outcome.answers.empty() ? Json(outcome.labels) : Json(outcome.answers);
}

/// The first place where an answer differs from dense's, -1: nowhere.
int64_t first_difference(const Outcome& a, const Outcome& b) {
  const auto flat = [](const Outcome& outcome) {
    std::vector<int32_t> all = outcome.predicted;
    for (const auto& turn : outcome.generated) all.insert(all.end(), turn.begin(), turn.end());
    return all;
  };
  const std::vector<int32_t> left = flat(a), right = flat(b);
  const auto [l, r] = std::mismatch(left.begin(), left.end(), right.begin(), right.end());
  return l == left.end() && r == right.end() ? -1 : l - left.begin();
}

std::optional<double> score(const Metric& metric, const Outcome& sample, const Outcome* dense) {
  if (sample.is_nan || !metric.shares) return std::nullopt;
  const std::vector<Share> shares = metric.shares(sample, dense);
  if (shares.empty()) return std::nullopt;
  return metric.finish == nullptr ? pooled(shares) : metric.finish(pooled(shares));
}

using LinesOf = std::vector<Json> (*)(const FinishedCell&, const FinishedCell&, const Catalogue&);

std::vector<Json> all_lines(const Experiment& experiment, const FinishedCells& cells,
                            const Catalogue& catalogue, LinesOf lines_of) {
  std::map<const Cell*, const FinishedCell*> finished;
  for (const FinishedCell* cell : cells) finished[cell->cell] = cell;
  std::vector<Json> all;
  for (const FinishedCell* cell : cells) {
    const auto dense = finished.find(&experiment.cells[cell->cell->reference]);
    if (dense == finished.end()) continue;
    for (Json& line : lines_of(*cell, *dense->second, catalogue)) all.push_back(std::move(line));
  }
  return all;
}

}  // namespace

Json to_json(const FinishedCell& cell) {
  return {{"id", cell.cell->id},
          {"cell", describe(*cell.cell)},
          {"title", cell.cell->title},
          {"protocol_suffix", cell.protocol_suffix},
          {"metrics", cell.metrics},
          {"facts", to_json(cell.facts)},
          {"data", cell.data},
          {"observed", to_json(cell.outcome)},
          {"timing", timing_json(cell.outcome)},
          {"provenance", cell.provenance}};
}

FinishedCell finished_from(const Json& json, const Cell& cell) try {
  KVLAB_REQUIRE(json.at("id") == cell.id, "E_FORMAT", "cell ", cell.id, ": its file is of ",
                json.at("id").dump());
  return {.cell = &cell,
          .protocol_suffix = json.at("protocol_suffix"),
          .metrics = json.at("metrics"),
          .facts = comparable_from(json.at("facts")),
          .data = json.at("data"),
          .outcome = outcome_from(json.at("observed"), json.at("timing")),
          .provenance = json.at("provenance")};
} catch (const nlohmann::json::exception& error) {
  fail("E_FORMAT", "cell ", cell.id, ": not what kvlab writes: ", error.what());
}

std::vector<Json> result_lines(const FinishedCell& cell, const FinishedCell& dense,
                               const Catalogue& catalogue) {
  const Json head = line_head(cell);
  const auto cr = estimate_of(catalogue.metric("cr"), cell, dense);
  const auto bits = estimate_of(catalogue.metric("bits_per_element"), cell, dense);
  std::vector<Json> lines;
  for (const Metric* metric : metrics_of(cell, catalogue)) {
    const std::optional<Estimate> estimate = estimate_of(*metric, cell, dense);
    if (!estimate) continue;
    Json line = head;
    line["metric"] = printed_name(*metric, cell);
    line["unit"] = metric->unit;
    line["better"] = name_of(metric->better);
    line["n"] = cell.outcome.samples.size();
    if (metric->timing) line["timing"] = true;
    if (const int64_t nan = cell.outcome.nan_samples(); nan > 0) line["nan_samples"] = nan;
    put_estimate(line, *estimate);
    if (metric->by_layer) {
      if (Json layers = metric->by_layer(cell.outcome); !layers.is_null())
        line["by_layer"] = layers;
    }
    if (cr) line["cr"] = cr->value;
    if (bits) line["bits_per_element"] = bits->value;
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<Json> sample_lines(const FinishedCell& cell, const FinishedCell& dense,
                               const Catalogue& catalogue) {
  const Metric& headline = catalogue.metric(cell.metrics.at(0));
  std::vector<Json> lines;
  for (size_t i = 0; i < cell.outcome.samples.size(); ++i) {
    const Outcome &sample = cell.outcome.samples[i], &reference = dense.outcome.samples[i];
    Json line{
        {"id", sample.id},
        {"run", cell.cell->id},
        {"task", cell.cell->task.name},
        {"method", cell.cell->title},
        {"metric", printed_name(headline, cell)},
        {"prediction", prediction(sample)},
        {"answers", answers(sample)},
        {"dense_prediction", prediction(reference)},
        {"first_difference", first_difference(sample, reference)},
        {"n_tokens", sample.end.tokens},
        {"cache_bytes", sample.end.cache_bytes()},
        {"compress_events", sample.compress_events},
        {"first_scored_after_compress", sample.first_scored_after_compress},
        {"timing", {{"prefill_s", sample.timing.prefill_s}, {"decode_s", sample.timing.decode_s}}}};
    if (sample.labels.size() > kMostShown) line.erase("answers");
    if (!sample.meta.empty()) line["meta"] = sample.meta;
    if (sample.is_nan) line["nan"] = sample.nan_where;
    put(line, "score", score(headline, sample, &reference));
    put(line, "dense_score", score(headline, reference, &reference));
    lines.push_back(std::move(line));
  }
  return lines;
}

namespace {

/// Lines of one metric about cells of one question.
struct Family {
  const Metric* metric = nullptr;
  std::vector<Json*> lines{};
  FinishedCells cells{};
};

void correct_p(const Family& family) {
  std::vector<Json*> tested;
  std::vector<double> p;
  for (Json* line : family.lines) {
    if (!line->contains("p")) continue;
    tested.push_back(line);
    p.push_back(line->at("p"));
  }
  const std::vector<double> corrected = holm(p);
  for (size_t i = 0; i < tested.size(); ++i) (*tested[i])["p_holm"] = corrected[i];
}

void mark_best(const Family& family) {
  std::vector<double> values;
  for (const Json* line : family.lines) values.push_back(line->at("value"));
  const auto best = distinctly_best(family.cells, *family.metric, values);
  if (best) (*family.lines[*best])["best"] = true;
}

}  // namespace

std::vector<Json> all_result_lines(const Experiment& experiment, const FinishedCells& cells,
                                   const Catalogue& catalogue) {
  std::vector<Json> lines = all_lines(experiment, cells, catalogue, result_lines);
  std::map<std::string, std::pair<const FinishedCell*, std::string>> asked;  // by a cell's id
  for (const FinishedCell* cell : cells)
    asked[cell->cell->id] = {cell, question_of(describe(*cell->cell))};
  std::map<std::string, Family> families;
  for (Json& line : lines) {
    const auto& [cell, question] = asked.at(line.at("run").get<std::string>());
    const std::string printed = line.at("metric");
    Family& family = families[question + printed];
    family.metric = &printed_metric(printed, *cell, catalogue);
    family.lines.push_back(&line);
    family.cells.push_back(cell);
  }
  for (const auto& [name, family] : families) {
    correct_p(family);
    mark_best(family);
  }
  return lines;
}

std::vector<Json> all_sample_lines(const Experiment& experiment, const FinishedCells& cells,
                                   const Catalogue& catalogue) {
  return all_lines(experiment, cells, catalogue, sample_lines);
}

std::string json_lines(const std::vector<Json>& lines) {
  std::string text;
  for (const Json& line : lines) text += line.dump() + "\n";
  return text;
}

std::vector<Json> read_json_lines(const std::filesystem::path& path) {
  std::istringstream text(read_file(path, int64_t{1} << 32));
  std::vector<Json> lines;
  for (std::string line; std::getline(text, line);)
    lines.push_back(parse_json(line, path.string() + " line " + std::to_string(lines.size() + 1)));
  return lines;
}

namespace {

/// Columns of summary.csv: "ci.0" is the first of a list.
constexpr const char* kColumns[] = {"run",
                                    "model",
                                    "method",
                                    "title",
                                    "params",
                                    "task",
                                    "task_params",
                                    "protocol",
                                    "read_policy",
                                    "prefill_chunk",
                                    "score_chunk",
                                    "query_aware",
                                    "seed",
                                    "context",
                                    "dtype",
                                    "metric",
                                    "value",
                                    "unit",
                                    "better",
                                    "n",
                                    "ci.0",
                                    "ci.1",
                                    "se",
                                    "dense",
                                    "delta",
                                    "delta_ci.0",
                                    "delta_ci.1",
                                    "p",
                                    "p_holm",
                                    "cr",
                                    "bits_per_element",
                                    "nan_samples",
                                    "timing",
                                    "model_sha",
                                    "tokenizer_sha",
                                    "data_sha",
                                    "schema"};

Json value_at(const Json& line, std::string_view column) {
  const size_t dot = column.find('.');
  const auto found = line.find(std::string(column.substr(0, dot)));
  if (found == line.end()) return {};
  return dot == column.npos ? *found : found->at(static_cast<size_t>(column[dot + 1] - '0'));
}

std::string csv_field(const Json& value) {
  if (value.is_null()) return {};
  if (value.is_number_float()) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value.get<double>());
    return text;
  }
  std::string text = value.is_string() ? value.get<std::string>() : canonical(value);
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::string csv(const std::vector<Json>& result_lines) {
  std::string text;
  for (const char* column : kColumns) {
    std::string name = column;
    if (name.ends_with(".0")) name.replace(name.size() - 2, 2, "_low");
    if (name.ends_with(".1")) name.replace(name.size() - 2, 2, "_high");
    text += (column == kColumns[0] ? "" : ",") + name;
  }
  text += "\r\n";
  for (const Json& line : result_lines) {
    for (const char* column : kColumns)
      text += (column == kColumns[0] ? "" : ",") + csv_field(value_at(line, column));
    text += "\r\n";
  }
  return text;
}

}  // namespace kvlab
