// kvlab prepare: a method's offline step, from a model to an artifact.

#include "eval/prepare.h"

#include <filesystem>

#include "core/error.h"
#include "eval/cli/exit_code.h"
#include "eval/cli/prepare_options.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Runs the offline step of a method: factors, scales or gates are computed from a model's\n"
    "weights, and from its activations on a text where the method calibrates.  The result is one\n"
    "safetensors file that experiments name beside the method.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab prepare METHOD --model DIR --text calibration.txt --out method.safetensors\n"
    "  kvlab prepare '{\"name\": \"METHOD\", \"params\": {...}}' --model DIR --out "
    "method.safetensors\n"
    "and in a config: {\"name\": \"METHOD\", \"artifact\": \"method.safetensors\"}\n";

struct Options {
  std::string what{}, out{};
  PrepareOptions prepare{};
  MethodOptions methods{};
  bool json = false;
};

int run_prepare(const Options& options) {
  const Registry registry = options.methods.registry();
  const MethodSpec method = method_to_prepare(json_or_text(options.what, "method"), registry);
  const std::filesystem::path out = options.out;
  KVLAB_REQUIRE(out.parent_path().empty() || std::filesystem::is_directory(out.parent_path()),
                "E_FILE", "prepare: ", out.string(), ": there is no such folder to write it in");
  const Artifact artifact = options.prepare.run(method, registry);
  artifact.save(out);
  if (options.json) {
    print_json({{"artifact", options.out}, {"header", artifact.header()}});
  } else {
    print_text(findings_text(artifact) + "wrote " + options.out +
               "; name it as \"artifact\" beside \"" + method.name + "\" in a config\n");
  }
  return kDone;
}

}  // namespace

void add_prepare(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("prepare", kHelp);
  command.footer(kExamples);
  command
      .add_option("what", options->what, "a method with an offline step, or JSON with parameters")
      ->required()
      ->type_name("METHOD|JSON");
  options->prepare.add(command, "--tokens-file,--tokens");
  command.add_option("--out", options->out, "the artifact: a safetensors file")
      ->required()
      ->type_name("FILE");
  options->methods.add_plugins(command);
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_prepare(*options); }; });
}

}  // namespace kvlab::cli
