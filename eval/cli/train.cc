// kvlab train: a model from a corpus.

#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/experiment/config.h"
#include "eval/lock.h"
#include "eval/process.h"
#include "eval/threads.h"
#include "eval/train/train.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Trains a decoder on a corpus, as a JSON recipe says (configs/train/), and writes it as an\n"
    "ordinary Hugging Face directory.  Interrupted, killed or out of power: the same command goes "
    "on\n"
    "from the last checkpoint, and on the CPU arrives at the same bits.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab corpus build configs/corpus.json --out build/corpus\n"
    "  kvlab train configs/train/ref-mha.json\n"
    "  kvlab train configs/train/ref-mha.json --out build/mine --set seed=7 --export models/mine\n"
    "\n"
    "The run directory holds checkpoint.safetensors, log.jsonl, config.json, curve.svg and, at "
    "the\n"
    "end, model/.\n";

struct Options {
  std::string config{}, out{}, export_to{}, device = "cpu";
  std::vector<std::string> set{};
  int threads = 0;
  bool json = false;
};

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
  return text;
}

/// "step 120/3000  loss 3.214  valid 3.41  4120 tokens/s (52 % of peak)"
std::string step_text(const StepReport& report) {
  char text[160];
  std::snprintf(text, sizeof text, "step %lld/%lld  loss %.3f", static_cast<long long>(report.step),
                static_cast<long long>(report.steps), report.loss);
  std::string line = text;
  if (report.validation != nullptr && report.validation->contains("text_loss")) {
    std::snprintf(text, sizeof text, "  valid %.3f",
                  report.validation->at("text_loss").get<double>());
    line += text;
  }
  std::snprintf(text, sizeof text, "  %.0f tokens/s (%s of peak)  %s left",
                report.tokens_per_second, percent(report.peak_share).c_str(),
                clock_text(report.seconds_left).c_str());
  return line + text;
}

/// A line that is redrawn on a terminal, and one a minute elsewhere.
class TrainProgress {
 public:
  void stepped(const StepReport& report) {
    if (is_terminal_) {
      std::fputs(("\r\x1b[K" + step_text(report)).c_str(), stderr);
      std::fflush(stderr);
    } else if (seconds_now() - said_at_ > kSayEvery || report.step == report.steps) {
      said_at_ = seconds_now();
      std::fputs((step_text(report) + "\n").c_str(), stderr);
    }
  }
  void validated(const Json& numbers) {
    std::fputs(
        ((is_terminal_ ? "\r\x1b[K" : "") + std::string("validation ") + numbers.dump() + "\n")
            .c_str(),
        stderr);
  }
  ~TrainProgress() {
    if (is_terminal_) std::fputs("\n", stderr);
  }

 private:
  static constexpr double kSayEvery = 60;
  bool is_terminal_ = ::isatty(STDERR_FILENO) == 1;
  double said_at_ = 0;
};

int run_train(const Options& options) {
  Json json = read_json(options.config);
  for (const std::string& assignment : options.set) override_value(json, assignment);
  if (!options.out.empty()) json["output"] = options.out;
  TrainConfig config = parse_train_config(json);
  if (options.threads > 0) config.threads = options.threads;
  if (config.threads > 0) set_thread_count(config.threads);
  watch_interrupts();
  TrainProgress progress;
  const TrainResult result =
      train_language_model(config, {.device = options.device, .export_to = options.export_to},
                           {.stepped = [&](const StepReport& report) { progress.stepped(report); },
                            .validated = [&](const Json& numbers) { progress.validated(numbers); },
                            .should_stop = [] { return interrupted(); }});
  KVLAB_REQUIRE(!result.stopped, "E_INTERRUPTED", "train: stopped after step ", result.steps,
                "; the same command goes on from there");
  if (options.json) {
    print_json(to_json(result));
  } else {
    print_text("trained: " + result.model.string() + "\n");
  }
  return kDone;
}

}  // namespace

void add_train(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("train", kHelp);
  command.footer(kExamples);
  command.add_option("config", options->config, "recipe")->required()->type_name("CONFIG.json");
  command.add_option("--out", options->out, "run directory [of the recipe]")->type_name("DIR");
  command.add_option("--export", options->export_to, "where the model goes at the end [DIR/model]")
      ->type_name("DIR");
  command.add_option("--set", options->set, "a.b=c: another value in the recipe")
      ->type_name("KEY=VALUE");
  command.add_option("--device", options->device, "cpu, cuda or cuda:INDEX")
      ->type_name("DEVICE")
      ->capture_default_str();
  add_threads(command, options->threads);
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_train(*options); }; });
}

}  // namespace kvlab::cli
