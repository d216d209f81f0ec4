// kvlab corpus: what reference models are trained on.

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/corpus/baselines.h"
#include "eval/corpus/build.h"
#include "eval/experiment/summary.h"
#include "eval/text_table.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Text that any installation can rebuild byte for byte, from Python packages it has anyway, "
    "and\n"
    "generated documents in which answers follow from what came before.\n";
constexpr const char* kBuildHelp =
    "Reads the packages that CONFIG pins, cleans their source and documentation, splits it by "
    "file\n"
    "into train, valid and test, trains a byte-level BPE tokenizer on it, and writes all of that\n"
    "and recall documents as tokens.  The same configuration gives the same bytes everywhere.\n";
constexpr const char* kPinHelp =
    "Prints the `packages` of CONFIG with the versions and SHA-256 of what is installed now: what\n"
    "to write into CONFIG after packages have been updated.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab corpus build\n"
    "  kvlab corpus build my.json --out /data/corpus\n"
    "  kvlab corpus baselines build/corpus\n"
    "  kvlab corpus pin configs/corpus.json\n";

constexpr const char* kBaselinesHelp =
    "Cross-entropy of text-test under a unigram and an interpolated modified Kneser-Ney 5-gram of\n"
    "text-train: what a language model trained on DIR has to be clearly below.\n";

struct Options {
  std::string corpus{};
  std::string config = "configs/corpus.json", out = "build/corpus";
  bool json = false;
};

std::string described(const Json& facts) {
  std::ostringstream text;
  for (const char* split : {"train", "valid", "test"}) {
    const Json& one = facts.at("text").at(split);
    text << "text-" << split << ": " << one.at("tokens") << " tokens, " << one.at("bytes")
         << " bytes, " << one.at("files") << " files\n";
  }
  for (const auto& [length, one] : facts.at("recall").items())
    text << "recall-" << length << ": " << one.at("tokens") << " tokens, " << one.at("marked")
         << " marked, " << one.at("documents") << " documents\n";
  return text.str();
}

int run_build(const Options& options) {
  Progress progress;
  watch_interrupts();
  const Json facts =
      corpus::build(read_json(options.config), options.config, options.out, observe(progress));
  progress.clear();
  if (options.json)
    print_json(facts);
  else
    print_text(described(facts) + options.out + "\n");
  return kDone;
}

int run_baselines(const Options& options) {
  Progress progress;
  watch_interrupts();
  const Json all = corpus::baselines(options.corpus, observe(progress));
  progress.clear();
  if (options.json) {
    print_json(all);
    return kDone;
  }
  TextTable table({"model", "nats per token", "perplexity", "bits per byte"});
  for (const Json& one : all)
    table.add({one.at("model"), digits(one.at("nats")), digits(one.at("perplexity")),
               digits(one.at("bits_per_byte"))});
  print_text(table.markdown() + "\n" + std::to_string(all[0].at("tokens").get<int64_t>()) +
             " tokens of text-test\n");
  return kDone;
}

int run_pin(const Options& options) {
  print_json(corpus::pin(read_json(options.config), options.config));
  return kDone;
}

void add_config(CLI::App& command, Options& options) {
  command.add_option("config", options.config, "packages, cleaning, recall documents")
      ->type_name("CONFIG")
      ->capture_default_str();
}

}  // namespace

void add_corpus(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("corpus", kHelp);
  command.footer(kExamples);
  command.require_subcommand(1);
  CLI::App& build = *command.add_subcommand("build", kBuildHelp);
  add_config(build, *options);
  build.add_option("--out", options->out, "folder; a corpus that lies there is replaced")
      ->type_name("DIR")
      ->capture_default_str();
  add_json(build, options->json);
  build.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_build(*options); }; });
  CLI::App& baselines = *command.add_subcommand("baselines", kBaselinesHelp);
  baselines.add_option("corpus", options->corpus, "written by `kvlab corpus build`")
      ->type_name("DIR")
      ->required();
  add_json(baselines, options->json);
  baselines.callback([options, &invocation] {
    invocation.chosen = [options] { return run_baselines(*options); };
  });
  CLI::App& pin = *command.add_subcommand("pin", kPinHelp);
  add_config(pin, *options);
  pin.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_pin(*options); }; });
}

}  // namespace kvlab::cli
