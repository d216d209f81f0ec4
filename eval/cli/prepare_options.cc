#include "eval/cli/prepare_options.h"

#include "eval/model_files.h"
#include "eval/prepare.h"
#include "eval/text_table.h"
#include "eval/threads.h"

namespace kvlab::cli {
namespace {

constexpr int64_t kProgressParts = 1000;

Text read_calibration(const PrepareOptions& options, const Json& model, int64_t vocab_size) {
  if (!options.tokens.empty()) return read_token_text(options.tokens, vocab_size);
  if (options.text.empty()) return {};
  return read_text_tokens(*tokenizer_of(model, "read " + options.text), options.text);
}

}  // namespace

CLI::Option& PrepareOptions::add(CLI::App& command, const std::string& tokens_names) {
  CLI::Option& network = model.add(command);
  CLI::Option& words = *command.add_option(
      "--text", text, "UTF-8 file to calibrate on, read by the model's tokenizer");
  CLI::Option& ids = *command.add_option(tokens_names, tokens, "token file to calibrate on");
  words.type_name("FILE")->excludes(&ids)->needs(&network);
  ids.type_name("FILE")->needs(&network);
  add_threads(command, threads);
  return network;
}

Artifact PrepareOptions::run(const MethodSpec& method, const Registry& registry) const {
  Preparation preparation{.method = method, .model = model.spec()};
  const ModelShape shape = shape_of(preparation.model);
  Text calibration = read_calibration(*this, preparation.model, shape.vocab_size);
  preparation.tokens = std::move(calibration.tokens);
  preparation.data = {{"files", calibration.files}, {"tokens", preparation.tokens.size()}};
  Progress progress;
  preparation.progress = [&](double share, const std::string& what) {
    progress.update(static_cast<int64_t>(kProgressParts * share), kProgressParts, what);
  };
  if (threads > 0) set_thread_count(threads);
  const std::unique_ptr<Model> network = load_model(preparation.model);
  Artifact artifact = prepare(preparation, *network, registry);
  progress.clear();
  return artifact;
}

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

std::string findings_text(const Artifact& artifact) {
  const Json& header = artifact.header();
  std::string text;
  if (header.contains("table")) text += table_text(header["table"]) + "\n";
  for (const Json& note : header.value("notes", Json::array()))
    text += note.get<std::string>() + "\n";
  return text;
}

}  // namespace kvlab::cli
