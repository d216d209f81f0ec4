#pragma once
// What the commands of `kvlab` share.

#include <CLI/CLI.hpp>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/registry.h"
#include "eval/cli/progress.h"
#include "eval/experiment/run.h"

namespace kvlab::cli {

/// One invocation.
struct Invocation {
  std::vector<std::string> argv{};
  std::function<int()> chosen{};  // set by the command that was named
};

/// Each command lives in a file of its own and adds itself.
void add_info(CLI::App& app, Invocation& invocation);
void add_eval(CLI::App& app, Invocation& invocation);
void add_compare(CLI::App& app, Invocation& invocation);
void add_corpus(CLI::App& app, Invocation& invocation);
void add_ppl(CLI::App& app, Invocation& invocation);
void add_prepare(CLI::App& app, Invocation& invocation);
void add_report(CLI::App& app, Invocation& invocation);
void add_reproduce(CLI::App& app, Invocation& invocation);
void add_generate(CLI::App& app, Invocation& invocation);
void add_samples(CLI::App& app, Invocation& invocation);
void add_bench(CLI::App& app, Invocation& invocation);
void add_selftest(CLI::App& app, Invocation& invocation);
void add_train(CLI::App& app, Invocation& invocation);
void add_worker(CLI::App& app, Invocation& invocation);

/// Options that several commands have, with one name and one help text each.
struct ModelOptions {
  std::string model{}, dtype{};
  /// Returns --model, which is required.
  CLI::Option& add(CLI::App& command);
  /// A directory, the name of a built-in model, or JSON.  E_FILE.
  Json spec() const;
};
struct MethodOptions {
  std::string method = "dense", artifact{};
  std::vector<std::string> plugins{};
  void add(CLI::App& command);
  void add_plugins(CLI::App& command);
  /// A name, "a+b", or JSON.
  Json spec() const;
  /// Everything of this build and of the plugins named.
  Registry registry() const;
};
void add_threads(CLI::App& command, int& threads);
/// --jobs and --threads, of commands that run experiments.
void add_run_options(CLI::App& command, RunOptions& run);
/// `kvlab worker` of this very program, with the same plugins.
std::vector<std::string> worker_command(const MethodOptions& methods);
void add_json(CLI::App& command, bool& json);

/// JSON where the text starts like it, else the text.  E_FORMAT.
Json json_or_text(const std::string& text, std::string_view where);

/// One JSON document, or Markdown: all that a command prints on stdout.
void print_json(const Json& document);
void print_text(const std::string& text);
/// Markdown whose quotations a terminal shows in grey.
void print_summary(const std::string& text);
void print_warning(const std::string& sentence);

/// True once the user has asked to stop (SIGINT, SIGTERM); the second time the process ends.
bool interrupted();
void watch_interrupts();

/// Shows steps, progress and warnings on stderr; stops when interrupted.
RunObserver observe(Progress& progress);

}  // namespace kvlab::cli
