// kvlab prepare: a method's offline step, from a model to an artifact.

#include "eval/prepare.h"

#include <filesystem>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/model_files.h"
#include "eval/text_table.h"
#include "eval/threads.h"

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

constexpr int64_t kProgressParts = 1000;

struct Options {
  std::string what{}, text{}, tokens{}, out{};
  ModelOptions model{};
  MethodOptions methods{};
  int threads = 0;
  bool json = false;
};

Text read_calibration(const Options& options, const Json& model, int64_t vocab_size) {
  if (!options.tokens.empty()) return read_token_text(options.tokens, vocab_size);
  if (options.text.empty()) return {};
  return read_text_tokens(*tokenizer_of(model, "read " + options.text), options.text);
}

/// {"columns", "rows"} as every offline step that has something to show per layer writes it.
std::string table_text(const Json& table) {
  std::vector<std::string> columns;
  for (const Json& column : table.at("columns")) columns.push_back(column);
  TextTable text(columns);
  for (const Json& row : table.at("rows")) {
    std::vector<std::string> cells;
    for (const Json& cell : row)
      cells.push_back(cell.is_string() ? cell.get<std::string>() : cell.dump());
    text.add(cells);
  }
  return text.markdown();
}

int run_prepare(const Options& options) {
  const Registry registry = options.methods.registry();
  Preparation preparation{
      .method = method_to_prepare(json_or_text(options.what, "method"), registry),
      .model = options.model.spec()};
  const std::filesystem::path out = options.out;
  KVLAB_REQUIRE(out.parent_path().empty() || std::filesystem::is_directory(out.parent_path()),
                "E_FILE", "prepare: ", out.string(), ": there is no such folder to write it in");
  const ModelShape shape = shape_of(preparation.model);
  Text text = read_calibration(options, preparation.model, shape.vocab_size);
  preparation.tokens = std::move(text.tokens);
  preparation.data = {{"files", text.files}, {"tokens", preparation.tokens.size()}};
  Progress progress;
  preparation.progress = [&](double share, const std::string& what) {
    progress.update(static_cast<int64_t>(kProgressParts * share), kProgressParts, what);
  };
  if (options.threads > 0) set_thread_count(options.threads);
  const std::unique_ptr<Model> model = load_model(preparation.model);
  const Artifact artifact = prepare(preparation, *model, registry);
  progress.clear();
  artifact.save(out);
  if (options.json) {
    print_json({{"artifact", options.out}, {"header", artifact.header()}});
  } else {
    if (artifact.header().contains("table"))
      print_text(table_text(artifact.header()["table"]) + "\n");
    print_text("wrote " + options.out + "; name it as \"artifact\" beside \"" +
               preparation.method.name + "\" in a config\n");
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
  options->model.add(command);
  auto& text = *command.add_option("--text", options->text,
                                   "UTF-8 file to calibrate on, read by the model's tokenizer");
  auto& tokens = *command.add_option("--tokens", options->tokens, "token file to calibrate on");
  text.type_name("FILE")->excludes(&tokens);
  tokens.type_name("FILE");
  command.add_option("--out", options->out, "the artifact: a safetensors file")
      ->required()
      ->type_name("FILE");
  options->methods.add_plugins(command);
  add_threads(command, options->threads);
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_prepare(*options); }; });
}

}  // namespace kvlab::cli
