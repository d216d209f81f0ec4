#include "eval/experiment/references.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "eval/experiment/config.h"
#include "eval/references_json.h"
#include "eval/text_table.h"

namespace kvlab {
namespace {

constexpr std::array<std::pair<const char*, std::string Reference::*>, 8> kTexts = {
    {{"family", &Reference::family},
     {"method", &Reference::method},
     {"model", &Reference::model},
     {"benchmark", &Reference::benchmark},
     {"metric", &Reference::metric},
     {"unit", &Reference::unit},
     {"setting", &Reference::setting},
     {"source", &Reference::source}}};
constexpr std::array<std::pair<const char*, std::optional<double> Reference::*>, 2> kSizes = {
    {{"bits", &Reference::bits}, {"cr", &Reference::cr}}};

template <class... Parts>
void require(bool condition, const Json& row, const Parts&... parts) {
  KVLAB_REQUIRE(condition, "E_FORMAT", "references: ", printable(row.dump(), 300), ": ", parts...);
}

bool is_known(const std::string& key) {
  const auto named = [&](const auto& entry) { return key == entry.first; };
  return key == "value" || std::ranges::any_of(kTexts, named) || std::ranges::any_of(kSizes, named);
}

/// `row` is whole: its table's members and its own.
Reference reference_from(const Json& row, size_t table) {
  Reference reference{.table = table};
  for (const auto& [key, value] : row.items())
    require(is_known(key), row, "unknown key `", key, "`");
  for (const auto& [key, member] : kTexts) {
    const auto given = row.find(key);
    const bool is_text = given != row.end() && given->is_string();
    if (is_text) reference.*member = *given;
    require(!(reference.*member).empty(), row, "lacks the text `", key, "`");
  }
  require(row.contains("value") && row["value"].is_number(), row, "lacks the number `value`");
  reference.value = row["value"];
  for (const auto& [key, member] : kSizes) {
    if (!row.contains(key)) continue;
    require(row[key].is_number() && row[key] > 0, row, key, " is no number above 0");
    reference.*member = row[key].get<double>();
  }
  return reference;
}

bool matches(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

}  // namespace

Json to_json(const Reference& row) {
  Json json{{"value", row.value}};
  for (const auto& [key, member] : kTexts) json[key] = row.*member;
  for (const auto& [key, member] : kSizes)
    if (row.*member) json[key] = *(row.*member);
  return json;
}

References::References(const Json& document) try {
  KVLAB_REQUIRE(document.value("schema", "") == "kvlab-references/1", "E_FORMAT",
                "references: no schema kvlab-references/1");
  families_ = document.at("families").get<decltype(families_)>();
  for (size_t i = 0; i < document.at("tables").size(); ++i) {
    Json common = document["tables"][i];
    const Json rows = common.at("rows");
    common.erase("rows");
    for (const Json& own : rows) {
      Json whole = common;
      for (const auto& [key, value] : own.items()) whole[key] = value;
      rows_.push_back(reference_from(whole, i));
      require(families_.contains(rows_.back().family), whole, "its family is not listed");
    }
  }
} catch (const nlohmann::json::exception& error) {
  fail("E_FORMAT", "references: ", error.what());
}

bool References::is_of(const Reference& row, std::string_view task) const {
  return std::ranges::any_of(families_.at(row.family),
                             [&](const std::string& pattern) { return matches(pattern, task); });
}

std::vector<const Reference*> References::concerning(std::string_view task,
                                                     const std::set<std::string>& methods) const {
  std::vector<const Reference*> found;
  std::set<size_t> near;  // tables with one of the methods
  for (const Reference& row : rows_) {
    const bool is_dense = row.method == kReference;
    if (!is_of(row, task) || (!is_dense && !methods.contains(row.method))) continue;
    found.push_back(&row);
    if (!is_dense) near.insert(row.table);
  }
  std::ranges::stable_partition(found, [&](const auto* row) { return near.contains(row->table); });
  return found;
}

const References& references() {
  static const References all(parse_json(kReferencesJson, "references.json"));
  return all;
}

std::string references_markdown(const std::vector<const Reference*>& rows) {
  TextTable table({"method", "value", "benchmark, metric", "model, setting", "source"});
  for (const Reference* row : rows) {
    std::string setting = row->model + ", " + row->setting;
    if (row->bits) setting.append(", ").append(Json(*row->bits).dump()).append(" bits");
    if (row->cr) setting.append(", cr ").append(Json(*row->cr).dump());
    std::string value = Json(row->value).dump();
    if (row->unit != "1") value.append(" ").append(row->unit);
    table.add({row->method, value, row->benchmark + ", " + row->metric, setting, row->source});
  }
  return table.markdown();
}

Json references_beside(const std::vector<Json>& result_lines, const References& all) {
  std::map<std::string, std::set<std::string>> methods;  // by task
  for (const Json& line : result_lines)
    methods[line.at("task")].merge(methods_in(line.at("method").get_ref<const std::string&>()));
  std::set<const Reference*> seen;
  Json rows = Json::array();
  for (const auto& [task, names] : methods) {
    for (const Reference* row : all.concerning(task, names))
      if (seen.insert(row).second) rows.push_back(to_json(*row));
  }
  return rows;
}

std::set<std::string> methods_in(std::string_view label) {
  std::set<std::string> names;
  for (size_t begin = 0; begin <= label.size();) {
    const size_t end = std::min(label.find('+', begin), label.size());
    names.emplace(label.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

}  // namespace kvlab
