#include "eval/cli/command.h"

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "core/error.h"
#include "core/plugin.h"

namespace kvlab::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int signal) {
  if (g_interrupted != 0) std::_Exit(128 + signal);
  g_interrupted = 1;
}

}  // namespace

CLI::Option& ModelOptions::add(CLI::App& command) {
  CLI::Option& chosen =
      *command
           .add_option("--model", model,
                       "Hugging Face directory, a built-in model (recall2), or JSON such as "
                       "'{\"path\": \"DIR\", \"dtype\": \"float32\"}'")
           ->required()
           ->type_name("DIR|NAME|JSON");
  command
      .add_option("--dtype", dtype,
                  "dtype of the run: float32, bfloat16, float16 (default: the model's own)")
      ->type_name("DTYPE")
      ->needs(&chosen);
  return chosen;
}

Json ModelOptions::spec() const {
  Json spec = json_or_text(model, "--model");
  if (spec.is_string()) {
    const bool is_path = std::filesystem::exists(model) || model.find('/') != model.npos;
    spec = Json{{is_path ? "path" : "builtin", model}};
  }
  if (!dtype.empty()) spec["dtype"] = dtype;
  return spec;
}

void MethodOptions::add(CLI::App& command) {
  command
      .add_option("--method", method,
                  "a method (`kvlab info` lists them), a composition a+b, or JSON such as "
                  "'{\"name\": \"quant\", \"params\": {\"bits\": 4}}'")
      ->type_name("NAME|JSON")
      ->capture_default_str();
  add_plugins(command);
}

void MethodOptions::add_plugins(CLI::App& command) {
  command.add_option("--plugin", plugins, "shared object that adds methods; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
}

Json MethodOptions::spec() const { return json_or_text(method, "--method"); }

Registry MethodOptions::registry() const {
  Registry all;
  register_all(all);
  for (const std::string& plugin : plugins) load_plugin(plugin, all);
  return all;
}

void add_threads(CLI::App& command, int& threads) {
  command
      .add_option("--threads", threads,
                  "threads to use (default: all cores; one for models that fit a core's cache)")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
}

void add_run_options(CLI::App& command, RunOptions& run) {
  command
      .add_option("--jobs", run.jobs,
                  "processes that run cells side by side, each with its share of the cores and a "
                  "model of its own; times then say little")
      ->type_name("N")
      ->capture_default_str();
  add_threads(command, run.threads);
}

std::vector<std::string> worker_command(const MethodOptions& methods) {
  std::vector<std::string> words{"/proc/self/exe", "worker"};
  for (const std::string& plugin : methods.plugins) {
    words.insert(words.end(), {"--plugin", plugin});
  }
  return words;
}

void add_json(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "print one JSON document on stdout and nothing else");
}

Json json_or_text(const std::string& text, std::string_view where) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == text.npos || (text[begin] != '{' && text[begin] != '[')) return text;
  return parse_json(text, where);
}

void print_json(const Json& document) { std::cout << document.dump(2) << "\n"; }
void print_text(const std::string& text) { std::cout << text; }

void print_summary(const std::string& text) {
  if (::isatty(STDOUT_FILENO) == 0) {
    std::cout << text;
    return;
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const bool is_quoted = line.starts_with("> ");
    std::cout << (is_quoted ? "\x1b[2m" + line + "\x1b[0m" : line) << "\n";
  }
}

void print_warning(const std::string& sentence) {
  std::cerr << "kvlab: warning: " << sentence << "\n";
}

RunObserver observe(Progress& progress) {
  return {.step = [&](const std::string& what) { progress.step(what); },
          .progress = [&](int64_t done, int64_t all,
                          const std::string& what) { progress.update(done, all, what); },
          .warn =
              [&](const std::string& sentence) {
                progress.clear();
                print_warning(sentence);
              },
          .interrupted = interrupted};
}

bool interrupted() { return g_interrupted != 0; }

void watch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

}  // namespace kvlab::cli
