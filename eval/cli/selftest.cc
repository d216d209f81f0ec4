// kvlab selftest: is this build sound?

#include "eval/selftest.h"

#include <algorithm>

#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/process.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Runs a small constructed model, whose answers are known, through every method of this build:\n"
    "tasks, caches, kernels and scoring, end to end, in seconds and without any file.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab selftest\n"
    "  kvlab selftest --plugin ./libmine.so --json\n";

struct Options {
  MethodOptions methods{};
  int threads = 0;
  bool json = false;
};

Json check_json(const Check& check) {
  return {{"name", check.name}, {"passed", check.passed}, {"detail", check.detail}};
}

int run_selftest(const Options& options) {
  const Registry registry = options.methods.registry();
  const double begin = seconds_now();
  Progress progress;
  RunObserver observer = observe(progress);
  observer.warn = {};  // that a default window keeps all of a short text is no news here
  const std::vector<Check> checks = selftest(registry, catalogue(), options.threads, observer);
  progress.clear();
  const bool passed =
      std::all_of(checks.begin(), checks.end(), [](const Check& check) { return check.passed; });
  if (options.json) {
    Json all = Json::array();
    for (const Check& check : checks) all.push_back(check_json(check));
    print_json({{"passed", passed}, {"checks", all}, {"seconds", seconds_now() - begin}});
  } else {
    for (const Check& check : checks) {
      print_text(std::string(check.passed ? "pass  " : "FAIL  ") + check.name + ": " +
                 check.detail + "\n");
    }
    print_text(passed ? "all passed\n" : "something failed: this build must not be trusted\n");
  }
  return passed ? kDone : kNegative;
}

}  // namespace

void add_selftest(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("selftest", kHelp);
  command.footer(kExamples);
  options->methods.add_plugins(command);
  add_threads(command, options->threads);
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_selftest(*options); }; });
}

}  // namespace kvlab::cli
