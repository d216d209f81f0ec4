// kvlab reproduce: a run again, from its record.

#include "eval/experiment/reproduce.h"

#include <filesystem>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/cli/progress.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Runs the experiment of a run directory again, from its record.json, and says which results\n"
    "differ and what was different about machine and build.  Exit status 1: some differ.  Numbers\n"
    "agree in every digit where build, instruction set and threads are the same.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab reproduce runs/mqar\n"
    "  kvlab reproduce theirs/mqar --folder ~/texts --out runs/mqar-here --json\n";

struct Options {
  std::string run{}, folder{}, out{};
  MethodOptions methods{};
  RunOptions options{};
  bool json = false;
};

int run_reproduce(Options options) {
  std::filesystem::path run = std::filesystem::absolute(options.run).lexically_normal();
  if (run.filename() == "record.json" || run.filename().empty()) run = run.parent_path();
  const Registry registry = options.methods.registry();
  const Experiment experiment = recorded_experiment(run, options.folder, registry, catalogue());
  const std::filesystem::path out = options.out.empty()
                                        ? std::filesystem::path(run.string() + "-again")
                                        : std::filesystem::absolute(options.out).lexically_normal();
  KVLAB_REQUIRE(out != run && out != run / "", "E_CONFIG",
                "reproduce: --out is the run itself; name another directory");
  options.options.directory = out;
  watch_interrupts();
  Progress progress;
  const RunResult result =
      run_experiment(experiment, registry, catalogue(), options.options, observe(progress));
  progress.clear();
  if (!result.stopped.empty()) {
    fail(interrupted() ? "E_INTERRUPTED" : "E_TIME", "reproduce: ", result.missing,
         " cells are missing: ", result.stopped);
  }
  KVLAB_REQUIRE(result.ran > 0, "E_CONFIG", "reproduce: nothing was run, because ", out.string(),
                " holds all cells already; remove it, or name another --out");
  const Reproduction reproduction = reproduction_of(run, out);
  if (options.json) {
    print_json(to_json(reproduction));
  } else {
    print_text(reproduction_markdown(reproduction));
  }
  return reproduction.differences.empty() ? kDone : kNegative;
}

}  // namespace

void add_reproduce(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("reproduce", kHelp);
  command.footer(kExamples);
  command.add_option("run", options->run, "run directory, or its record.json")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--folder", options->folder, "where input files are, instead of where they were")
      ->type_name("DIR");
  command.add_option("--out", options->out, "run directory of the repetition [DIR-again]")
      ->type_name("DIR");
  options->methods.add_plugins(command);
  command.add_flag(
      "--allow-vacuous", options->options.allow_vacuous,
      "for a run made with it: also cells in which the method cannot change the score");
  add_run_options(command, options->options);
  add_json(command, options->json);
  command.callback([options, &invocation] {
    invocation.chosen = [options, &invocation] {
      options->options.argv = invocation.argv;
      options->options.worker_command = worker_command(options->methods);
      return run_reproduce(*options);
    };
  });
}

}  // namespace kvlab::cli
