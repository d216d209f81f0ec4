// kvlab eval: an experiment from its config to a table.

#include <filesystem>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/cli/progress.h"
#include "eval/experiment/run.h"
#include "eval/experiment/summary.h"
#include "eval/text_table.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Runs the experiment of a JSON config: every method on every task, dense first.\n"
    "\n"
    "Results go to a run directory (record.json, results.jsonl, samples.jsonl, summary.md,\n"
    "report.html); the summary is printed.  Finished cells are kept: the same command goes on "
    "where\n"
    "a run stopped.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab eval configs/quickstart.json\n"
    "  kvlab eval my.json --list                     the cells and their ids, nothing is run\n"
    "  kvlab eval my.json --set tasks.0.samples=4 --set seed=8 --out runs/try\n"
    "  kvlab eval my.json --jobs 4                   four cells at a time, each in a process\n"
    "  kvlab eval my.json --plugin ./libmine.so --json\n"
    "\n"
    "A config:\n"
    "  {\"schema\": \"kvlab-config/1\", \"name\": \"try\", \"seed\": 7,\n"
    "   \"model\": {\"builtin\": \"recall2\"},\n"
    "   \"tasks\": [{\"builtin\": \"mqar\", \"pairs\": 8, \"context\": 128}],\n"
    "   \"methods\": [\"dense\", {\"name\": \"quant\", \"params\": {\"bits\": {\"sweep\": [8, "
    "4]}}}],\n"
    "   \"matrix\": {\"prefill_chunk\": [512], \"read_policy\": [\"raw_chunk\"]}}\n"
    "Keys, sweeps and the meaning of every file: eval/README.md.\n";

struct Options {
  std::string config{}, out{};
  std::vector<std::string> sets{};
  MethodOptions methods{};
  RunOptions run{};
  bool list = false, json = false;
};

Experiment read_experiment(const Options& options, const Registry& registry) {
  const std::filesystem::path path = options.config;
  Json config = read_json(path);
  for (const std::string& assignment : options.sets) override_value(config, assignment);
  if (config.is_object() && !config.contains("name")) config["name"] = path.stem().string();
  Experiment experiment = parse_experiment(config, path.parent_path(), registry, catalogue());
  if (!options.out.empty()) experiment.output = options.out;
  return experiment;
}

int list_cells(const Experiment& experiment, bool json) {
  TextTable table({"cell", "method", "task", "prefill", "read policy", "seed"});
  Json cells = Json::array();
  for (const Cell& cell : experiment.cells) {
    Json entry = describe(cell);
    entry["id"] = cell.id;
    const auto& chunk = cell.matrix.prefill_chunk;
    table.add({cell.id, cell.title, cell.task.name, chunk ? std::to_string(*chunk) : "default",
               std::string(name_of(cell.matrix.read_policy)), std::to_string(cell.seed)});
    cells.push_back(std::move(entry));
  }
  if (json) {
    print_json({{"cells", std::move(cells)}});
  } else {
    print_text(table.markdown());
  }
  return kDone;
}

Json result_json(const Experiment& experiment, const RunResult& result) {
  Json records = Json::array();
  for (Json& line : all_result_lines(experiment, result.cells(), catalogue()))
    records.push_back(std::move(line));
  return {{"run_directory", experiment.output.string()},
          {"cells", result.finished.size()},
          {"ran", result.ran},
          {"kept", result.kept},
          {"missing", result.missing},
          {"nan_samples", result.nan_samples},
          {"stopped", result.stopped},
          {"records", std::move(records)}};
}

int finish(const Options& options, const Experiment& experiment, const RunResult& result) {
  if (options.json) {
    print_json(result_json(experiment, result));
  } else {
    print_summary(
        summary_markdown(experiment.name, result.cells(), catalogue(), options.run.allow_mixed) +
        "\n" + std::to_string(result.ran) + " cells run, " + std::to_string(result.kept) +
        " kept from before; everything is in " + experiment.output.string() + "\n");
  }
  if (!result.stopped.empty()) {
    fail(interrupted() ? "E_INTERRUPTED" : "E_TIME", "eval: ", result.missing, " of ",
         result.missing + result.finished.size(), " cells are missing: ", result.stopped);
  }
  KVLAB_REQUIRE(result.broken.empty(), "E_NOT_EXACT", "eval: ", result.broken.front());
  KVLAB_REQUIRE(result.nan_samples == 0, "E_NONFINITE", "eval: ", result.nan_samples,
                " samples met logits that are not finite and are in no mean; samples.jsonl names ",
                "them");
  return kDone;
}

int run_eval(Options options) {
  const Registry registry = options.methods.registry();
  const Experiment experiment = read_experiment(options, registry);
  if (options.list) return list_cells(experiment, options.json);
  options.run.directory = experiment.output;
  watch_interrupts();
  Progress progress;
  const RunResult result =
      run_experiment(experiment, registry, catalogue(), options.run, observe(progress));
  progress.clear();
  return finish(options, experiment, result);
}

}  // namespace

void add_eval(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("eval", kHelp);
  command.footer(kExamples);
  command.add_option("config", options->config, "the experiment")->required()->type_name("FILE");
  command
      .add_option("--set", options->sets,
                  "replace a value of the config, e.g. tasks.0.samples=8; may be repeated")
      ->type_name("a.b=c")
      ->allow_extra_args(false);
  command.add_flag("--list", options->list, "print the cells and their ids, run nothing");
  command.add_option("--out", options->out, "run directory, instead of the config's `output`")
      ->type_name("DIR");
  options->methods.add_plugins(command);
  command.add_flag("--allow-vacuous", options->run.allow_vacuous,
                   "also run cells in which the method cannot change the score");
  command.add_flag("--allow-mixed", options->run.allow_mixed,
                   "print results of unequal data, models or protocols in one table");
  add_run_options(command, options->run);
  add_json(command, options->json);
  command.callback([options, &invocation] {
    invocation.chosen = [options, &invocation] {
      options->run.argv = invocation.argv;
      options->run.worker_command = worker_command(options->methods);
      return run_eval(*options);
    };
  });
}

}  // namespace kvlab::cli
