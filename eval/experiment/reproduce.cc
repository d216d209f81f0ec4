#include "eval/experiment/reproduce.h"

#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "eval/text_table.h"

namespace kvlab {
namespace {

Json read_record(const std::filesystem::path& run) {
  const Json record = read_json(run / "record.json");
  KVLAB_REQUIRE(record.is_object() && record.value("schema", "") == "kvlab-record/1", "E_FORMAT",
                (run / "record.json").string(), ": no record of a run (schema kvlab-record/1)");
  return record;
}

/// Lines that do not depend on the clock, by cell and metric.
std::map<std::pair<std::string, std::string>, Json> lasting_lines(
    const std::filesystem::path& run) {
  const std::filesystem::path path = run / "results.jsonl";
  std::istringstream text(read_file(path, int64_t{1} << 30));
  std::map<std::pair<std::string, std::string>, Json> lines;
  int number = 0;
  for (std::string line; std::getline(text, line);) {
    ++number;
    try {
      Json json = parse_json(line, path.string());
      if (json.value("timing", false)) continue;
      const std::pair<std::string, std::string> key{json.at("run"), json.at("metric")};
      lines[key] = std::move(json);
    } catch (const nlohmann::json::exception& error) {
      fail("E_FORMAT", path.string(), ": line ", number, " is no result: ", error.what());
    }
  }
  return lines;
}

void compare_lines(const Json& was, const Json& is, Reproduction& reproduction) {
  const Json& named = was.is_null() ? is : was;
  std::set<std::string> fields;
  for (const Json* line : {&was, &is})
    for (const auto& [field, value] : line->items()) fields.insert(field);
  const size_t before = reproduction.differences.size();
  for (const std::string& field : fields) {
    const Json old = was.value(field, Json()), now = is.value(field, Json());
    if (old == now) continue;
    reproduction.differences.push_back({.method = named.at("title"),
                                        .task = named.at("task"),
                                        .metric = named.at("metric"),
                                        .field = field,
                                        .was = old,
                                        .is = now});
  }
  if (reproduction.differences.size() == before) ++reproduction.equal;
}

/// A line that only one run has.
void add_unmatched(const Json& line, bool is_new, Reproduction& reproduction) {
  ResultDifference one{.method = line.at("title"),
                       .task = line.at("task"),
                       .metric = line.at("metric"),
                       .field = "value"};
  (is_new ? one.is : one.was) = line.value("value", Json());
  reproduction.differences.push_back(std::move(one));
}

std::vector<std::string> circumstances_of(const Json& was, const Json& is) {
  std::vector<std::string> all;
  for (const char* place : {"/build/commit", "/build/build", "/build/compiler", "/build/torch",
                            "/machine/cpu", "/machine/kernel", "/machine/environment",
                            "/instruction_sets", "/threads", "/models", "/artifacts"}) {
    const Json::json_pointer pointer(place);
    const Json old = was.value(pointer, Json()), now = is.value(pointer, Json());
    if (old != now)
      all.push_back(std::string(place + 1) + ": " + old.dump() + ", now " + now.dump());
  }
  return all;
}

std::string shown(const Json& value) { return value.is_null() ? "–" : value.dump(); }

}  // namespace

Experiment recorded_experiment(const std::filesystem::path& run,
                               const std::filesystem::path& folder, const Registry& registry,
                               const Catalogue& catalogue) {
  const Json record = read_record(run);
  KVLAB_REQUIRE(record.contains("config") && record.contains("folder"), "E_FORMAT",
                (run / "record.json").string(), ": lacks `config` or `folder`");
  const std::filesystem::path where =
      folder.empty() ? std::filesystem::path(record.at("folder").get<std::string>()) : folder;
  return parse_experiment(record.at("config"), where, registry, catalogue);
}

Reproduction reproduction_of(const std::filesystem::path& was, const std::filesystem::path& is) {
  Reproduction reproduction;
  auto now = lasting_lines(is);
  for (const auto& [key, line] : lasting_lines(was)) {
    const auto found = now.find(key);
    if (found == now.end()) {
      add_unmatched(line, false, reproduction);
      continue;
    }
    compare_lines(line, found->second, reproduction);
    now.erase(found);
  }
  for (const auto& [key, line] : now) add_unmatched(line, true, reproduction);
  reproduction.circumstances = circumstances_of(read_record(was), read_record(is));
  return reproduction;
}

std::string reproduction_markdown(const Reproduction& reproduction) {
  std::string text = std::to_string(reproduction.equal) + " results are equal in every digit, " +
                     std::to_string(reproduction.differences.size()) + " numbers differ.\n";
  if (!reproduction.differences.empty()) {
    TextTable table({"method", "task", "metric", "field", "was", "is"});
    for (const ResultDifference& one : reproduction.differences)
      table.add({one.method, one.task, one.metric, one.field, shown(one.was), shown(one.is)});
    text += "\n" + table.markdown();
  }
  if (!reproduction.circumstances.empty()) {
    text += "\nWhat was different:\n";
    for (const std::string& one : reproduction.circumstances) text += "- " + one + "\n";
  }
  return text;
}

Json to_json(const Reproduction& reproduction) {
  Json differences = Json::array();
  for (const ResultDifference& one : reproduction.differences)
    differences.push_back({{"method", one.method},
                           {"task", one.task},
                           {"metric", one.metric},
                           {"field", one.field},
                           {"was", one.was},
                           {"is", one.is}});
  return {{"reproduced", reproduction.differences.empty()},
          {"equal", reproduction.equal},
          {"differences", std::move(differences)},
          {"circumstances", reproduction.circumstances}};
}

}  // namespace kvlab
