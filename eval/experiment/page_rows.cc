#include "eval/experiment/page_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "eval/experiment/config.h"

namespace kvlab {
namespace {

std::string question_key(const Json& line) {
  Json key;
  for (const char* field :
       {"model", "task", "task_params", "read_policy", "prefill_chunk", "query_aware", "seed"})
    key[field] = line.value(field, Json());
  return canonical(key);
}

/// {"key": {"axis": "token"}} as "key.axis": "token".  The parameters of a composition are a list.
void flatten(const Json& params, const std::string& prefix, std::map<std::string, Json>& flat) {
  if (!params.is_structured()) {
    flat[prefix] = params;
    return;
  }
  for (const auto& [name, value] : params.items()) {
    const bool is_stage = params.is_array() && value.is_object();
    std::string place = prefix;
    if (!is_stage) place.append(prefix.empty() ? "" : ".").append(name);
    flatten(value, place, flat);
  }
}

/// Names every row of a family by the parameters in which they differ.
void name_settings(std::vector<PageRow>& rows) {
  std::map<std::string, std::vector<PageRow*>> families;
  for (PageRow& row : rows) families[row.family].push_back(&row);
  for (auto& [family, members] : families) {
    std::vector<std::map<std::string, Json>> flat(members.size());
    std::map<std::string, std::set<Json>> seen;
    for (size_t i = 0; i < members.size(); ++i) {
      flatten(members[i]->lines[0]->value("params", Json::object()), "", flat[i]);
      for (const auto& [name, value] : flat[i]) seen[name].insert(value);
    }
    for (size_t i = 0; i < members.size(); ++i) {
      for (const auto& [name, value] : flat[i]) {
        if (seen[name].size() < 2) continue;
        std::string& setting = members[i]->setting;
        setting += (setting.empty() ? "" : ", ") + name + " " +
                   (value.is_string() ? value.get<std::string>() : canonical(value));
      }
    }
  }
}

}  // namespace

const Json* PageRow::find(const std::string& metric) const {
  const auto found = by_metric.find(metric);
  return found == by_metric.end() ? nullptr : found->second;
}

std::optional<double> number_in(const Json& line, const char* field) {
  const auto found = line.find(field);
  if (found == line.end() || !found->is_number()) return std::nullopt;
  const double number = *found;
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::optional<double> PageRow::value(const std::string& metric) const {
  const Json* line = find(metric);
  return line == nullptr ? std::nullopt : number_in(*line, "value");
}

std::vector<PageQuestion> page_questions(const std::vector<Json>& results) {
  std::vector<PageQuestion> questions;
  std::map<std::string, size_t> place;
  for (const Json& line : results) {
    const auto [found, is_new] = place.try_emplace(question_key(line), questions.size());
    if (is_new) questions.emplace_back();
    std::vector<PageRow>& rows = questions[found->second].rows;
    const std::string run = line.at("run");
    auto row = std::ranges::find(rows, run, &PageRow::run);
    if (row == rows.end()) {
      rows.push_back({.run = run,
                      .title = line.at("title"),
                      .family = line.at("method"),
                      .is_dense = line.at("method") == kReference});
      row = rows.end() - 1;
    }
    row->lines.push_back(&line);
    row->by_metric[line.at("metric")] = &line;
    row->nan_samples = line.value("nan_samples", row->nan_samples);
  }
  std::erase_if(questions, [](const PageQuestion& q) { return !q.rows[0].is_dense; });
  for (PageQuestion& question : questions) name_settings(question.rows);
  return questions;
}

Estimate estimate_from(const Json& line) {
  const auto interval = [&](const char* key) -> std::optional<Interval> {
    if (!line.contains(key) || !line.at(key).at(0).is_number()) return std::nullopt;
    return Interval{line.at(key).at(0), line.at(key).at(1), 0};
  };
  return {.value = number_in(line, "value").value_or(std::numeric_limits<double>::quiet_NaN()),
          .interval = interval("ci"),
          .dense = number_in(line, "dense"),
          .delta = number_in(line, "delta"),
          .delta_interval = interval("delta_ci"),
          .p = number_in(line, "p")};
}

}  // namespace kvlab
