#include "eval/experiment/page_data.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "core/error.h"
#include "eval/experiment/page_plots.h"
#include "eval/experiment/references.h"
#include "eval/experiment/report.h"
#include "eval/experiment/summary.h"
#include "eval/pareto.h"

namespace kvlab {
namespace {

constexpr const char* kNothing = "–";

Json text_cell(const std::string& text) { return {{"t", text}, {"v", text}}; }
Json empty_cell() { return {{"t", kNothing}, {"v", nullptr}}; }
Json number_cell(const std::optional<double>& value) {
  return value ? Json{{"t", digits(*value)}, {"v", *value}} : empty_cell();
}

Json value_cell(const PageRow& row, const std::string& metric) {
  const Json* line = row.find(metric);
  if (line == nullptr || !row.value(metric)) return empty_cell();
  Json cell{{"t", value_text(estimate_from(*line), line->at("unit").get<std::string>())},
            {"v", line->at("value")}};
  if (line->value("best", false)) cell["best"] = true;
  return cell;
}

Json field_cell(const PageRow& row, const std::string& metric, const char* field) {
  const Json* line = row.find(metric);
  return line == nullptr ? empty_cell() : number_cell(number_in(*line, field));
}

Json delta_cell(const PageRow& row, const std::string& metric) {
  const Json* line = row.find(metric);
  const auto delta = line == nullptr ? std::nullopt : number_in(*line, "delta");
  return delta ? Json{{"t", delta_text(estimate_from(*line))}, {"v", *delta}} : empty_cell();
}

/// How many times as fast as dense: decoding where there is any, else the prefill.
Json times_cell(const PageRow& row) {
  if (row.is_dense) return {{"t", "1x"}, {"v", 1}};
  const Json* line = row.find("decode_tok_s");
  if (line == nullptr) line = row.find("prefill_tok_s");
  if (line == nullptr) return empty_cell();
  const auto value = number_in(*line, "value"), dense = number_in(*line, "dense");
  if (!value || !dense || *dense <= 0) return empty_cell();
  return {{"t", digits(*value / *dense) + "x"}, {"v", *value / *dense}};
}

/// A difference that feeding alone could have made is no difference.
Json against_noise_cell(const PageRow& row) {
  if (row.is_dense) return empty_cell();
  const auto value = row.value("delta_nll"), noise = row.value("noise_floor");
  Json cell = value_cell(row, "delta_nll");
  if (value && noise && std::abs(*value) <= *noise) cell["t"] = "≤ noise";
  return cell;
}

Json method_cell(const PageRow& row) {
  Json cell = text_cell(row.title);
  if (row.nan_samples > 0)
    cell["t"] = row.title + " (" + std::to_string(row.nan_samples) + " samples NaN)";
  return cell;
}

bool is_of_task(const std::string& metric, const Catalogue& catalogue) {
  const auto found = catalogue.metrics().find(metric);
  return found == catalogue.metrics().end() || !found->second.always;
}

/// The metric beside the headline: what dense loses nothing of, else the task's next, else none.
std::string second_metric(const PageQuestion& question, const Catalogue& catalogue) {
  const PageRow& dense = question.rows[0];
  if (dense.find("noise_floor") != nullptr) return "delta_nll";
  if (dense.lines.size() < 2) return {};
  const std::string next = dense.lines[1]->at("metric");
  return is_of_task(next, catalogue) ? next : std::string();
}

struct Column {
  std::string label{}, doc{};
  std::function<Json(const PageRow&)> cell{};
};

std::string doc_of(const std::string& metric, const Catalogue& catalogue) {
  for (const auto& [name, known] : catalogue.metrics())
    if (metric == name || (known.in_name && metric.starts_with(name))) return known.doc;
  return {};
}

std::vector<Column> columns_of(const PageQuestion& question, const Catalogue& catalogue) {
  const std::string headline = question.headline();
  const auto any = [&](const std::string& metric) {
    return std::ranges::any_of(question.rows, [&](const PageRow& row) { return row.find(metric); });
  };
  const auto metric = [&](const std::string& label, const std::string& name) -> Column {
    return {label, doc_of(name, catalogue),
            [name](const PageRow& row) { return value_cell(row, name); }};
  };
  std::vector<Column> all{
      {"method", "", method_cell},
      metric(headline, headline),
      {"Δ to dense", headline + " less dense's, pair by pair, with a 95 % interval",
       [headline](const PageRow& row) { return delta_cell(row, headline); }}};
  for (const auto& [field, doc] :
       {std::pair{"p", "of no difference to dense"},
        std::pair{"p_holm", "p, corrected for all methods of this table (Holm)"}})
    all.push_back({field, doc, [headline, field = field](const PageRow& row) {
                     return field_cell(row, headline, field);
                   }});
  const std::string second = second_metric(question, catalogue);
  if (second == "delta_nll") {
    all.push_back({second, doc_of(second, catalogue), against_noise_cell});
  } else if (!second.empty()) {
    all.push_back(metric(second, second));
  }
  if (headline != "kl" && second != "kl" && any("kl")) all.push_back(metric("kl", "kl"));
  all.push_back(metric("cr", "cr"));
  all.push_back(metric("bits/element", "bits_per_element"));
  all.push_back(metric("cache", "cache_bytes"));
  all.push_back(metric("prefill tok/s", "prefill_tok_s"));
  if (any("decode_tok_s")) all.push_back(metric("decode tok/s", "decode_tok_s"));
  all.push_back({"vs_dense", "times as fast as dense: decoding, or the prefill where there is none",
                 times_cell});
  return all;
}

Json table_of(const PageQuestion& question, const Catalogue& catalogue) {
  const std::vector<Column> columns = columns_of(question, catalogue);
  Json head = Json::array(), rows = Json::array();
  for (const Column& column : columns)
    head.push_back({{"label", column.label}, {"doc", column.doc}});
  for (size_t i = 0; i < question.rows.size(); ++i) {
    Json cells = Json::array();
    for (const Column& column : columns) cells.push_back(column.cell(question.rows[i]));
    rows.push_back({{"row", i}, {"cells", std::move(cells)}});
  }
  return {{"columns", std::move(head)}, {"rows", std::move(rows)}};
}

/// Every metric of every row.
Json all_metrics_of(const PageQuestion& question, const Catalogue& catalogue) {
  std::vector<const Json*> metrics;
  std::set<std::string> seen;
  for (const PageRow& row : question.rows)
    for (const Json* line : row.lines)
      if (seen.insert(line->at("metric")).second) metrics.push_back(line);
  Json head = Json::array({{{"label", "metric"}, {"doc", ""}}, {{"label", "unit"}, {"doc", ""}}});
  for (const PageRow& row : question.rows) head.push_back({{"label", row.title}, {"doc", ""}});
  Json rows = Json::array();
  for (const Json* line : metrics) {
    const std::string metric = line->at("metric");
    Json cells = Json::array({text_cell(metric), text_cell(line->at("unit"))});
    cells[0]["doc"] = doc_of(metric, catalogue);
    for (const PageRow& row : question.rows) cells.push_back(value_cell(row, metric));
    rows.push_back({{"row", -1}, {"cells", std::move(cells)}});
  }
  return {{"columns", std::move(head)}, {"rows", std::move(rows)}};
}

/// A row per method that ran with several settings; dense is the first point of each curve.
Json tradeoffs_of(const PageQuestion& question) {
  if (!question.higher_is_better()) return nullptr;
  const auto point = [&](const PageRow& row) -> std::optional<Tradeoff> {
    const auto cr = row.value("cr"), score = row.value(question.headline());
    return cr && score ? std::optional(Tradeoff{*cr, *score}) : std::nullopt;
  };
  const std::optional<Tradeoff> first = point(question.rows[0]);
  if (!first) return nullptr;
  std::map<std::string, std::vector<Tradeoff>> families;
  std::map<std::string, size_t> place;
  for (size_t i = 1; i < question.rows.size(); ++i) {
    const PageRow& row = question.rows[i];
    place.try_emplace(row.family, i);
    if (const auto one = point(row)) families[row.family].push_back(*one);
  }
  Json rows = Json::array();
  for (const Curve& curve : curves(*first, families))
    rows.push_back({{"row", place.at(curve.method)},
                    {"cells",
                     {text_cell(curve.method), number_cell(static_cast<double>(curve.settings)),
                      number_cell(static_cast<double>(curve.on_front)),
                      number_cell(curve.cr_at_1pct), number_cell(curve.mean)}}});
  if (rows.empty()) return nullptr;
  const auto column = [](const char* label, const char* doc) {
    return Json{{"label", label}, {"doc", doc}};
  };
  return {{"columns",
           {column("method", ""), column("settings", "that ran"),
            column("on the front", "settings that no other setting of the method beats"),
            column("cr_at_1pct", "largest cr that keeps 99 % of dense's score"),
            column("pareto_auc", "mean of score / dense along the front, over log2 cr")}},
          {"rows", std::move(rows)}};
}

std::string model_name(const Json& model) {
  if (!model.is_object()) return model.dump();
  return model.value("builtin", model.value("path", std::string("model")));
}

std::string facts_of(const PageQuestion& question, const Json& record) {
  const Json& line = question.head();
  const auto text = [&](const char* key) { return line.value(key, std::string("unknown")); };
  const int64_t chunk = line.value("prefill_chunk", int64_t{0});
  std::string facts = model_name(line.value("model", Json())) + ", " + text("dtype") + " · " +
                      text("protocol") + " · " + text("read_policy") + " · prefill " +
                      (chunk == 0 ? "in one pass" : "in chunks of " + std::to_string(chunk));
  if (line.value("query_aware", false)) facts += " · query in the prefill";
  const Json::json_pointer bos("/data/" + question.rows[0].run + "/facts/bos");
  if (record.contains(bos)) facts += " · BOS " + record.at(bos).get<std::string>();
  return facts + " · seed " + line.value("seed", Json()).dump() + " · " +
         line.value("n", Json()).dump() + " samples";
}

std::string heading_of(const PageQuestion& question, const Catalogue& catalogue) {
  const Json& line = question.head();
  return task_title({.name = line.at("task"), .params = line.value("task_params", Json::object())},
                    catalogue);
}

Json question_json(const PageQuestion& question, size_t number, const Json& record,
                   const SamplesByRun& samples, const Catalogue& catalogue) {
  Json rows = Json::array();
  for (const PageRow& row : question.rows)
    rows.push_back({{"title", row.title},
                    {"family", row.family},
                    {"setting", row.setting},
                    {"dense", row.is_dense}});
  return {{"id", "q" + std::to_string(number + 1)},
          {"heading", heading_of(question, catalogue)},
          {"facts", facts_of(question, record)},
          {"headline", question.headline()},
          {"rows", std::move(rows)},
          {"table", table_of(question, catalogue)},
          {"all", all_metrics_of(question, catalogue)},
          {"tradeoffs", tradeoffs_of(question)},
          {"plots", page_plots(question, samples)}};
}

/// The headline of every method on every question.
Json overview_of(const std::vector<PageQuestion>& questions, const Catalogue& catalogue) {
  if (questions.size() < 2) return nullptr;
  Json columns = Json::array({{{"label", "method"}, {"doc", ""}}});
  std::vector<const PageRow*> titles;
  for (const PageQuestion& question : questions) {
    columns.push_back(
        {{"label", heading_of(question, catalogue) + ", " + question.headline()}, {"doc", ""}});
    for (const PageRow& row : question.rows)
      if (std::ranges::none_of(titles, [&](const PageRow* t) { return t->title == row.title; }))
        titles.push_back(&row);
  }
  Json rows = Json::array();
  for (const PageRow* title : titles) {
    Json cells = Json::array({text_cell(title->title)});
    for (const PageQuestion& question : questions) {
      const auto row = std::ranges::find(question.rows, title->title, &PageRow::title);
      cells.push_back(row == question.rows.end() ? empty_cell()
                                                 : value_cell(*row, question.headline()));
    }
    rows.push_back({{"row", -1}, {"family", title->family}, {"cells", std::move(cells)}});
  }
  return {{"columns", std::move(columns)}, {"rows", std::move(rows)}};
}

/// "a1b2...: text" of record.json, with the method and question it is about.
Json warnings_of(const Json& record, const std::vector<PageQuestion>& questions,
                 const Catalogue& catalogue) {
  Json all = Json::array();
  for (const Json& warning : record.value("warnings", Json::array())) {
    const std::string text = warning;
    Json entry{{"where", ""}, {"text", text}};
    for (const PageQuestion& question : questions)
      for (const PageRow& row : question.rows)
        if (text.starts_with(row.run + ": "))
          entry = {{"where", row.title + ", " + heading_of(question, catalogue)},
                   {"text", text.substr(row.run.size() + 2)}};
    all.push_back(std::move(entry));
  }
  return all;
}

Json metrics_json(const PageSource& source, const Catalogue& catalogue) {
  Json all = Json::object();
  for (const Json& line : source.results) {
    const std::string name = line.at("metric");
    if (all.contains(name)) continue;
    all[name] = {
        {"unit", line.at("unit")}, {"better", line.at("better")}, {"doc", doc_of(name, catalogue)}};
  }
  return all;
}

Json subtitle_of(const Json& record) {
  Json parts = Json::array();
  const auto add = [&](const char* pointer, const std::string& before) {
    const Json::json_pointer place(pointer);
    if (record.contains(place) && record.at(place).is_string())
      parts.push_back(before + record.at(place).get<std::string>());
  };
  add("/machine/cpu", "");
  add("/build/version", "kvlab ");
  if (const Json sessions = record.value("sessions", Json::array()); !sessions.empty()) {
    const Json started = sessions.back().value("started", Json());
    if (started.is_string()) parts.push_back(started);
  }
  return parts;
}

int64_t missing_of(const PageSource& source) {
  std::set<std::string> there;
  for (const Json& line : source.results) there.insert(line.at("run"));
  const auto asked = static_cast<int64_t>(source.record.value("cells", Json::array()).size());
  return std::max<int64_t>(asked - static_cast<int64_t>(there.size()), 0);
}

}  // namespace

Json page_data(const PageSource& source, const Catalogue& catalogue) try {
  const std::vector<PageQuestion> questions = page_questions(source.results);
  SamplesByRun samples;
  for (const Json& sample : source.samples) samples[sample.at("run")].push_back(&sample);
  Json shown = Json::array();
  std::vector<std::string> families{std::string(kReference)};
  for (size_t i = 0; i < questions.size(); ++i) {
    shown.push_back(question_json(questions[i], i, source.record, samples, catalogue));
    for (const PageRow& row : questions[i].rows)
      if (std::ranges::find(families, row.family) == families.end()) families.push_back(row.family);
  }
  return {{"schema", "kvlab-page/1"},
          {"title", source.record.value("name", std::string("kvlab"))},
          {"subtitle", subtitle_of(source.record)},
          {"missing", missing_of(source)},
          {"families", std::move(families)},
          {"overview", overview_of(questions, catalogue)},
          {"questions", std::move(shown)},
          {"warnings", warnings_of(source.record, questions, catalogue)},
          {"references", references_beside(source.results, references())},
          {"metrics", metrics_json(source, catalogue)},
          {"record", source.record}};
} catch (const nlohmann::json::exception& error) {
  fail("E_FORMAT", "report: a line or the record is not what kvlab writes: ", error.what());
}

PageSource read_page_source(const std::filesystem::path& run) {
  return {.results = read_json_lines(run / "results.jsonl"),
          .samples = read_json_lines(run / "samples.jsonl"),
          .record = read_json(run / "record.json")};
}

}  // namespace kvlab
