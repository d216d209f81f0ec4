// The `kvlab` command.

#include <csignal>
#include <exception>
#include <iostream>
#include <new>

#include "core/error.h"
#include "core/version.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"

namespace kvlab::cli {
namespace {

constexpr const char* kAbout =
    "kvlab: KV-cache compression, really stored, really read, really measured.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab info                               methods, tasks and protocols\n"
    "  kvlab info quant                         one method: parameters, bytes per token\n"
    "  kvlab eval configs/quickstart.json       an experiment, accuracy beside bytes and speed\n"
    "  kvlab samples niah_single_1 --model DIR  what a task asks\n"
    "  kvlab ppl --model DIR --text book.txt --method quant\n"
    "  kvlab prepare METHOD --model DIR --text book.txt --out FILE\n"
    "  kvlab generate --model DIR --prompt-tokens ids.json --max-new 32\n"
    "  kvlab bench attention --codec int4 --heads 32 --kv-heads 8 --head-dim 128 --tokens 16384\n"
    "  kvlab selftest                           is this build sound?\n"
    "`kvlab COMMAND --help` teaches each of them.\n\n";

std::string version_text() {
  const Version& v = version();
  std::ostringstream text;
  text << "kvlab " << v.number << "\ncommit " << v.commit << "\nbuild " << v.build << ", "
       << v.compiler << "\ntorch " << v.torch;
  return text.str();
}

int report(std::string_view code, std::string_view sentence) {
  std::cerr << "kvlab: " << code << ": " << sentence << "\n";
  return exit_code_of(code);
}

/// CLI11 says help and version with exceptions too.
int usage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);
  return report("E_USAGE", std::string(error.what()) + "; see `kvlab --help`");
}

int run(int argc, char** argv) {
  CLI::App app{kAbout, "kvlab"};
  Invocation invocation{.argv = {argv, argv + argc}};
  app.set_version_flag("--version", version_text(), "version, commit, build and compiler");
  app.footer(kExamples + exit_code_help());
  app.require_subcommand(1);
  for (const auto add :
       {add_info, add_eval, add_compare, add_reproduce, add_samples, add_report, add_prepare,
        add_ppl, add_generate, add_corpus, add_train, add_bench, add_selftest, add_worker}) {
    add(app, invocation);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return usage(app, error);
  }
  const int code = invocation.chosen();
  std::cout.flush();
  if (!std::cout) fail("E_DISK", "stdout: cannot be written; is the disk full?");
  return code;
}

}  // namespace
}  // namespace kvlab::cli

int main(int argc, char** argv) {
  using kvlab::cli::report;
  std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error like any other
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return kvlab::cli::run(argc, argv);
  } catch (const kvlab::Error& error) {
    return report(error.code(), error.message());
  } catch (const std::bad_alloc&) {
    return report("E_MEMORY", "the system has no more memory; use a smaller model or context");
  } catch (const std::exception& error) {
    return report("E_INTERNAL", error.what());
  }
}
