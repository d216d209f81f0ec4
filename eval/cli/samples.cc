// kvlab samples: what a task asks, as JSON Lines.

#include <filesystem>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/experiment/samples.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Prints the samples of tasks as JSON Lines, one object per sample; no model runs.\n"
    "\n"
    "Texts are fitted to their length in the tokens of the model's own tokenizer, so a task of "
    "text\n"
    "needs a model directory with one. The same task, seed and tokenizer give the same bytes on\n"
    "every machine.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab samples mqar --model recall2 --count 2\n"
    "  kvlab samples '{\"builtin\": \"niah_single_1\", \"length\": 4096}' --model DIR --seed 7 "
    "--count 3\n"
    "  kvlab samples --config my.json > samples.jsonl\n"
    "\n"
    "Of text: id, task, seed, context, query, answer_prefix, answers, match, max_new_tokens, meta\n"
    "(n_tokens, depth, needle_spans: tokens of the context). Of tokens: context_ids, query_ids,\n"
    "labels (-1: not scored) instead of the words. Several turns stand in a list, turns.\n";

struct Options {
  std::vector<std::string> tasks{};
  std::string config{}, model{};
  uint64_t seed = 0;
  int64_t count = 0;
};

Experiment experiment_of(const Options& options, const Registry& registry) {
  if (!options.config.empty()) {
    const std::filesystem::path path = options.config;
    return parse_experiment(read_json(path), path.parent_path(), registry, catalogue());
  }
  Json tasks = Json::array();
  for (const std::string& given : options.tasks) {
    Json task = json_or_text(given, "task");
    tasks.push_back(task.is_string() ? Json{{"builtin", task}} : std::move(task));
  }
  const ModelOptions model{.model = options.model};
  return experiment_of_tasks(tasks, model.spec(), options.seed, {}, registry, catalogue());
}

int run_samples(const Options& options) {
  KVLAB_REQUIRE(options.tasks.empty() != options.config.empty(), "E_USAGE",
                "samples: give either tasks or --config; see `kvlab samples --help`");
  KVLAB_REQUIRE(options.config.empty() != options.model.empty(), "E_USAGE",
                "samples: tasks need --model, and a config names its own; see `kvlab samples "
                "--help`");
  Registry registry;
  register_all(registry);
  each_sample(experiment_of(options, registry), options.count, registry, catalogue(),
              [](const Json& record) { print_text(record.dump() + "\n"); });
  return kDone;
}

}  // namespace

void add_samples(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("samples", kHelp);
  command.footer(kExamples);
  command.add_option("tasks", options->tasks, "names (`kvlab info` lists them), or JSON")
      ->type_name("NAME|JSON");
  command.add_option("--config", options->config, "the tasks of an experiment")->type_name("FILE");
  command
      .add_option("--model", options->model,
                  "Hugging Face directory, whose tokenizer and vocabulary are used, or a built-in "
                  "model (recall2)")
      ->type_name("DIR|NAME|JSON");
  command.add_option("--seed", options->seed, "of the data")->type_name("N")->capture_default_str();
  command.add_option("--count", options->count, "only the first so many of each task")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_samples(*options); }; });
}

}  // namespace kvlab::cli
