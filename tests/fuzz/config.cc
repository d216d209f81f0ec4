// Any text as an experiment: cells that each know a dense one to be compared with, or one sentence.

#include "eval/experiment/config.h"

#include "tests/fuzz/fuzz.h"

namespace kvlab {
namespace {

const Registry& registry() {
  static const Registry kRegistry = [] {
    Registry all;
    all.add(Method{.name = "dense"});
    all.add(Method{.name = "quant",
                   .schema = R"({"bits": {"type": "integer", "default": 4, "doc": "d"}})"});
    return all;
  }();
  return kRegistry;
}

const Catalogue& tasks() {
  static const Catalogue kCatalogue = [] {
    Catalogue all;
    const auto schema = [](const Json&) {
      return std::string(R"({"pairs": {"type": "integer", "default": 8, "doc": "d"}})");
    };
    all.add(Task{.name = "mqar", .schema = schema});
    all.add(
        Task{.name = "ppl", .shorthand = "ppl", .shorthand_parameter = "pairs", .schema = schema});
    return all;
  }();
  return kCatalogue;
}

}  // namespace
}  // namespace kvlab

void kvlab::fuzz::target(std::string_view text) {
  if (text.size() > 4096) return;  // sweeps multiply: long inputs are only slow
  Experiment experiment;
  const bool valid = fuzz::accepts(
      {"E_FORMAT", "E_CONFIG", "E_UNKNOWN", "E_NONFINITE", "E_FILE"},
      [&] { experiment = parse_experiment(parse_json(text, "input"), ".", registry(), tasks()); });
  if (!valid) return;
  for (const Cell& cell : experiment.cells) {
    const Cell& dense = experiment.cells.at(cell.reference);
    fuzz::require(dense.is_dense, "a reference is dense");
    fuzz::require(dense.seed == cell.seed && dense.task.params == cell.task.params, "and alike");
  }
}
