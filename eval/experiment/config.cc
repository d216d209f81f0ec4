#include "eval/experiment/config.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "core/schema.h"
#include "eval/experiment/expand.h"

namespace kvlab {
namespace {

constexpr const char* kSchemaText = R"({
  "schema": {"type": "string", "choices": ["kvlab-config/1"], "doc": "version of this format"},
  "name": {"type": "string", "default": "experiment", "doc": "of the experiment"},
  "output": {"type": "string", "default": "", "doc": "run directory; empty: runs/<name>"},
  "seed": {"type": "integer", "default": 0, "minimum": 0, "doc": "of the data"},
  "model": {"type": "object", "doc": "{\"builtin\": NAME} or {\"path\": DIR}"},
  "tasks": {"type": "array", "items": "object", "doc": "what is asked"},
  "methods": {"type": "array", "items": ["string", "object"], "default": [],
              "doc": "what is compared with dense"},
  "matrix": {"type": "object", "default": {}, "doc": "how tokens reach the cache", "fields": {
    "prefill_chunk": {"type": "array", "items": ["integer", "null"], "minimum": 0,
                      "default": [null], "unit": "token",
                      "doc": "prefill so many at a time; 0: at once; null: as the protocol says"},
    "query_aware": {"type": "array", "items": "boolean", "default": [false],
                    "doc": "whether the query is part of the prefill"},
    "read_policy": {"type": "array", "items": "string", "default": ["raw_chunk"],
                    "choices": ["raw_chunk", "stored", "masked"],
                    "doc": "what a pass reads of its own tokens"}}},
  "exclude": {"type": "array", "items": "object", "default": [], "doc": "cells to leave out"},
  "repeat": {"type": "object", "default": {}, "doc": "runs with other data", "fields": {
    "seeds": {"type": "array", "items": "integer", "minimum": 0, "default": [],
              "doc": "data seeds, instead of `seed`"}}},
  "limits": {"type": "object", "default": {}, "doc": "when to stop", "fields": {
    "max_seconds": {"type": "number", "default": 0, "minimum": 0, "unit": "s",
                    "doc": "no cell starts later than this; 0: no limit"}}}})";

Json complete(const std::string& schema, const Json& given, std::string_view who) {
  return Schema::parse(schema, who).complete(given, who);
}

std::vector<CellMatrix> matrices(const Json& lists) {
  for (const auto& [key, list] : lists.items()) {
    KVLAB_REQUIRE(!list.empty(), "E_CONFIG", "matrix: `", key, "`: the list is empty");
  }
  std::vector<CellMatrix> all;
  for (const Json& chunk : lists.at("prefill_chunk")) {
    for (const Json& aware : lists.at("query_aware")) {
      for (const Json& read : lists.at("read_policy")) {
        CellMatrix one{.read_policy = read_policy_named(read.get<std::string>()),
                       .query_aware = aware.get<bool>()};
        if (!chunk.is_null()) one.prefill_chunk = chunk.get<int64_t>();
        all.push_back(one);
      }
    }
  }
  return all;
}

std::vector<uint64_t> seeds(const Json& config) {
  std::vector<uint64_t> all = config.at("repeat").at("seeds");
  if (all.empty()) all.push_back(config.at("seed").get<uint64_t>());
  return all;
}

/// The methods in order, without repetitions, dense in front.
std::vector<std::vector<MethodSpec>> methods(const Json& given, const Registry& registry) {
  std::vector<std::vector<MethodSpec>> all{parse_methods(std::string(kReference), registry)};
  std::set<std::string> known{canonical(describe(all[0]))};
  for (const Json& entry : given) {
    for (const Json& one : expand(entry, "methods")) {
      std::vector<MethodSpec> specs = parse_methods(one, registry);
      if (known.insert(canonical(describe(specs))).second) all.push_back(std::move(specs));
    }
  }
  return all;
}

/// "quant.bits": parameters of which the methods have more than one value.
std::set<std::string> varied_parameters(const std::vector<std::vector<MethodSpec>>& methods) {
  std::map<std::string, std::set<std::string>> values;
  for (const auto& specs : methods) {
    for (const MethodSpec& spec : specs) {
      for (const auto& [key, value] : spec.params.items()) {
        values[spec.name + "." + key].insert(canonical(value));
      }
    }
  }
  std::set<std::string> varied;
  for (const auto& [name, seen] : values) {
    if (seen.size() > 1) varied.insert(name);
  }
  return varied;
}

/// Digests of the methods' artifacts, each file read once.
class Digests {
 public:
  explicit Digests(const std::filesystem::path& folder) : folder_(folder) {}
  std::vector<FileDigest> of(const std::vector<MethodSpec>& specs) {
    std::vector<FileDigest> all;
    for (const MethodSpec& spec : specs)
      all.push_back(spec.artifact.empty() ? FileDigest{} : of_file(spec));
    return all;
  }

 private:
  const FileDigest& of_file(const MethodSpec& spec) {
    const auto [found, is_new] = known_.try_emplace(spec.artifact);
    if (!is_new) return found->second;
    const std::filesystem::path path = from_folder(folder_, spec.artifact);
    std::error_code ignored;
    KVLAB_REQUIRE(std::filesystem::is_regular_file(path, ignored), "E_FILE", spec.name,
                  ": artifact ", printable(path.native(), 400),
                  " is no file; `kvlab prepare` writes one");
    return found->second = digest_file(path);
  }
  const std::filesystem::path& folder_;
  std::map<std::string, FileDigest> known_{};
};

std::vector<TaskSpec> tasks(const Json& given, const Catalogue& catalogue) {
  KVLAB_REQUIRE(!given.empty(), "E_CONFIG", "tasks: the list is empty",
                suggestion("", catalogue.tasks()));
  std::vector<TaskSpec> all;
  for (const Json& entry : given) {
    for (const Json& one : expand(entry, "tasks")) all.push_back(parse_task(one, catalogue));
  }
  return all;
}

Json matrix_json(const CellMatrix& matrix) {
  return {{"prefill_chunk", matrix.prefill_chunk ? Json(*matrix.prefill_chunk) : Json()},
          {"query_aware", matrix.query_aware},
          {"read_policy", name_of(matrix.read_policy)}};
}

/// Everything `exclude` may name of a cell: parameters of its methods and task, its matrix.
Json facts_of(const Cell& cell) {
  Json facts = matrix_json(cell.matrix);
  for (const MethodSpec& spec : cell.method) facts.update(spec.params);
  facts.update(cell.task.params);
  facts["method"] = label(cell.method);
  facts["task"] = cell.task.name;
  facts["seed"] = cell.seed;
  return facts;
}

bool matches(const Json& rule, const Json& facts) {
  return std::all_of(rule.items().begin(), rule.items().end(), [&](const auto& item) {
    const auto found = facts.find(item.key());
    return found != facts.end() && *found == item.value();
  });
}

/// Leaves out the cells that a rule describes; a rule whose key no cell has is a mistake.
void exclude(std::vector<Cell>& cells, const Json& rules) {
  std::vector<Json> facts;
  std::set<std::string> known;
  for (const Cell& cell : cells) {
    facts.push_back(facts_of(cell));
    for (const auto& [key, value] : facts.back().items()) known.insert(key);
  }
  const std::vector<std::string> names(known.begin(), known.end());
  for (const Json& rule : rules) {
    KVLAB_REQUIRE(rule.is_object() && !rule.empty(), "E_CONFIG",
                  "exclude: ", printable(rule.dump()),
                  " is not an object of keys and values that a cell may have");
    for (const auto& [key, value] : rule.items()) {
      KVLAB_REQUIRE(known.contains(key), "E_UNKNOWN", "exclude: no cell has `", printable(key), "`",
                    suggestion(key, names));
    }
  }
  std::vector<Cell> kept;
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool out = std::any_of(rules.begin(), rules.end(),
                                 [&](const Json& rule) { return matches(rule, facts[i]); });
    // Dense is what the others are compared with: it stays as long as one of them does.
    if (!out || cells[i].is_dense) kept.push_back(std::move(cells[i]));
  }
  cells = std::move(kept);
}

/// Ids, and for each cell the dense one it is compared with.
void number(std::vector<Cell>& cells) {
  std::map<std::string, size_t> dense, seen;
  const auto key = [](const Cell& cell) {
    Json json = describe(cell);
    json.erase("method");
    return canonical(json);
  };
  for (size_t i = 0; i < cells.size(); ++i) {
    cells[i].id = cell_id(cells[i]);
    if (cells[i].is_dense) dense[key(cells[i])] = i;
    const auto [other, fresh] = seen.emplace(cells[i].id, i);
    KVLAB_REQUIRE(fresh, "E_CONFIG", "tasks: cell ", cells[i].id, " (", cells[i].task.name, ", ",
                  label(cells[i].method), ") is listed twice");
  }
  for (Cell& cell : cells) cell.reference = dense.at(key(cell));
}

/// Every cell with every choice, the choices fastest.
template <class T, class Put>
std::vector<Cell> cross(const std::vector<Cell>& cells, const std::vector<T>& choices,
                        const Put& put) {
  std::vector<Cell> all;
  for (const Cell& cell : cells) {
    for (const T& choice : choices) {
      all.push_back(cell);
      put(all.back(), choice);
    }
  }
  return all;
}

/// JSON where it parses, else the text itself.
Json value_of(std::string_view text) {
  try {
    return parse_json(text, "--set");
  } catch (const Error&) {
    return text;
  }
}

/// a.b.0.c, one step at a time.
Json& step_into(Json& at, const std::string& step, std::string_view assignment) {
  if (!at.is_array()) {
    KVLAB_REQUIRE(at.is_object() || at.is_null(), "E_CONFIG", "--set ", printable(assignment),
                  ": `", printable(step), "` is no place in ", at.dump());
    return at[step];
  }
  const bool digits = !step.empty() && step.find_first_not_of("0123456789") == step.npos;
  KVLAB_REQUIRE(digits && step.size() < 10 && std::stoul(step) < at.size(), "E_CONFIG", "--set ",
                printable(assignment), ": `", printable(step), "` is no place in a list of ",
                at.size());
  return at[std::stoul(step)];
}

}  // namespace

TaskSpec parse_task(const Json& given, const Catalogue& catalogue) {
  KVLAB_REQUIRE(given.is_object(), "E_CONFIG", "tasks: ", printable(given.dump()),
                " is not an object such as {\"builtin\": \"mqar\"} or {\"ppl\": \"decode\", ...}");
  Json params = given;
  const Task* task = nullptr;
  for (const std::string& name : catalogue.tasks()) {
    const Task& one = catalogue.task(name);
    if (one.shorthand.empty() || !params.contains(one.shorthand)) continue;
    KVLAB_REQUIRE(!params.contains("builtin"), "E_CONFIG", "tasks: give either `builtin` or `",
                  one.shorthand, "`");
    params[one.shorthand_parameter] = params[one.shorthand];
    if (one.shorthand != one.shorthand_parameter) params.erase(one.shorthand);
    task = &one;
  }
  if (task == nullptr) {
    KVLAB_REQUIRE(params.contains("builtin") && params["builtin"].is_string(), "E_CONFIG",
                  "tasks: ", printable(given.dump()),
                  " names no task; write {\"builtin\": NAME, ...}",
                  suggestion("", catalogue.tasks()));
    task = &catalogue.task(params["builtin"].get<std::string>());
    params.erase("builtin");
  }
  return {task->name, complete(task->schema(params), params, task->name)};
}

namespace {

/// "bits=2"; of an object its members that are no defaults, "key.axis=channel".
std::vector<std::string> shown(const std::string& name, const Json& value, const Json& standard) {
  if (!value.is_object())
    return {name + "=" + (value.is_string() ? value.get<std::string>() : canonical(value))};
  std::vector<std::string> all;
  const std::string prefix = name + ".";
  for (const auto& [key, member] : value.items()) {
    const Json usual = standard.is_object() && standard.contains(key) ? standard.at(key) : Json();
    if (member == usual) continue;
    for (std::string& one : shown(prefix + key, member, usual)) all.push_back(std::move(one));
  }
  return all;
}

}  // namespace

std::string method_title(const std::vector<MethodSpec>& specs, const Registry& registry,
                         const std::set<std::string>& varied) {
  std::string title;
  for (const MethodSpec& spec : specs) {
    std::string given;
    for (const Parameter& parameter : registry.method_schema(spec.name).parameters()) {
      const auto found = spec.params.find(parameter.name);
      const bool is_shown =
          found != spec.params.end() &&
          (*found != parameter.standard || varied.contains(spec.name + "." + parameter.name));
      if (!is_shown) continue;
      for (const std::string& one : shown(parameter.name, *found, parameter.standard))
        given += (given.empty() ? "" : ",") + one;
    }
    title += (title.empty() ? "" : "+") + spec.name + (given.empty() ? "" : "(" + given + ")");
  }
  return title;
}

Json describe(const Cell& cell) {
  Json task = cell.task.params;
  task["builtin"] = cell.task.name;
  Json method = describe(cell.method);
  for (size_t i = 0; i < cell.artifacts.size(); ++i) {
    if (!cell.artifacts[i].sha256.empty()) method[i]["artifact_sha256"] = cell.artifacts[i].sha256;
  }
  return {{"schema", kConfigSchema},
          {"model", cell.model},
          {"task", std::move(task)},
          {"method", std::move(method)},
          {"matrix", matrix_json(cell.matrix)},
          {"seed", cell.seed}};
}

Json artifacts_of(const Cell& cell) {
  Json all = Json::array();
  for (size_t i = 0; i < cell.artifacts.size(); ++i) {
    const auto& [sha256, bytes] = cell.artifacts[i];
    if (sha256.empty()) continue;
    all.push_back({{"path", cell.method[i].artifact}, {"sha256", sha256}, {"bytes", bytes}});
  }
  return all;
}

std::filesystem::path from_folder(const std::filesystem::path& folder,
                                  const std::filesystem::path& path) {
  return path.is_absolute() ? path : folder / path;
}

std::string question_of(Json described) {
  described.erase("method");
  return canonical(described);
}

std::string cell_id(const Cell& cell) {
  return sha256_hex(canonical(describe(cell))).substr(0, 16);
}

Experiment parse_experiment(const Json& config, const std::filesystem::path& folder,
                            const Registry& registry, const Catalogue& catalogue) {
  const Json all = complete(kSchemaText, config, "config");
  Experiment experiment{.effective = config, .name = all.at("name"), .folder = folder};
  const std::string output = all.at("output");
  experiment.output = output.empty() ? "runs/" + experiment.name : output;
  experiment.max_seconds = all.at("limits").at("max_seconds");

  const auto all_methods = methods(all.at("methods"), registry);
  const auto varied = varied_parameters(all_methods);
  const auto all_tasks = tasks(all.at("tasks"), catalogue);
  const auto all_matrices = matrices(all.at("matrix"));
  const auto all_seeds = seeds(all);
  const auto models = expand(all.at("model"), "model");
  const size_t count = all_methods.size() * all_tasks.size() * all_matrices.size() *
                       all_seeds.size() * models.size();
  KVLAB_REQUIRE(count <= static_cast<size_t>(kMostExpanded), "E_CONFIG", "config: stands for ",
                count, " cells, more than ", kMostExpanded);
  std::vector<Cell>& cells = experiment.cells;
  Digests digests(folder);
  cells = cross({Cell{}}, all_methods, [&](Cell& cell, const auto& one) {
    cell.method = one;
    cell.artifacts = digests.of(one);
    cell.title = method_title(one, registry, varied);
  });
  for (size_t i = 0; i < cells.size(); ++i) cells[i].is_dense = i == 0;
  cells = cross(cells, models, [](Cell& cell, const Json& one) { cell.model = one; });
  cells = cross(cells, all_tasks, [](Cell& cell, const TaskSpec& one) { cell.task = one; });
  cells = cross(cells, all_matrices, [](Cell& cell, const CellMatrix& m) { cell.matrix = m; });
  cells = cross(cells, all_seeds, [](Cell& cell, uint64_t one) { cell.seed = one; });
  exclude(experiment.cells, all.at("exclude"));
  number(experiment.cells);
  return experiment;
}

void override_value(Json& config, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  KVLAB_REQUIRE(equals != assignment.npos && equals > 0, "E_CONFIG", "--set ",
                printable(assignment), ": write a.b=c, e.g. --set tasks.0.samples=8");
  std::string path(assignment.substr(0, equals));
  const std::string_view text = assignment.substr(equals + 1);
  Json* at = &config;
  for (size_t dot = 0; dot != path.npos;) {
    dot = path.find('.');
    at = &step_into(*at, path.substr(0, dot), assignment);
    path.erase(0, dot == path.npos ? dot : dot + 1);
  }
  *at = value_of(text);
}

}  // namespace kvlab
