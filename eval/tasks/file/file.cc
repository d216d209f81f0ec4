// A task that is a file: what is asked of each document of another file.

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/sha256.h"
#include "eval/tasks/file/task_file.h"
#include "eval/tasks/file/types.h"
#include "eval/text.h"

namespace kvlab::tasks::file {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSchema = R"({
  "path": {"type": "string", "doc": "task file; the documents it names lie beside it"},
  "samples": {"type": "integer", "default": 0, "minimum": 0,
              "doc": "of the first so many documents; 0: of all"}})";

Source read(const fs::path& path, int64_t samples, Json& files) {
  const std::string text = read_text(path);
  Source source{.name = printable(path.filename().native(), 100)};
  source.file = parse_task_file(text, source.name);
  files = {{{"path", path.string()}, {"sha256", sha256_hex(text)}, {"bytes", text.size()}}};
  const auto documents = [&](const std::string& name, const std::string& sha256) {
    Documents read = read_documents(path.parent_path() / name, sha256);
    files.push_back(read.digest);
    return std::move(read.all);
  };
  const std::string docs = source.file.at("docs");
  source.docs = documents(docs, source.file.at("docs_sha256"));
  const Json fewshot = source.file.value("fewshot", Json{{"n", 0}});
  if (fewshot.at("n") > 0) {
    const std::string from = fewshot.at("from");
    source.examples_are_docs = from.empty() || from == docs;
    source.examples = source.examples_are_docs ? source.docs : documents(from, "");
  }
  if (samples > 0 && samples < std::ssize(source.docs))
    source.docs.resize(static_cast<size_t>(samples));
  return source;
}

Made make(const Source& source, const TaskSetup& setup) {
  const std::string type = source.file.at("type");
  if (type == "perplexity") return make_perplexity(source, setup);
  if (type == "generate") return make_generate(source, setup);
  if (type == "tokens") return make_tokens(source, setup);
  return make_multiple_choice(source, setup);
}

Work prepare(const TaskSetup& setup) {
  Json files;
  const Source source = read(setup.locate(setup.params->at("path").get<std::string>()),
                             setup.params->at("samples"), files);
  Made made = make(source, setup);
  Work& work = made.work;
  work.metrics = metrics_of(source.file, source.name);
  work.count = std::ssize(made.samples);
  work.facts.update({{"files", files},
                     {"file_task", source.file.at("task")},
                     {"file_type", source.file.at("type")},
                     {"file_version", source.file.at("version")},
                     {"documents", source.docs.size()}});
  auto samples = std::make_shared<std::vector<Sample>>(std::move(made.samples));
  work.sample = [samples](int64_t index) { return (*samples)[static_cast<size_t>(index)]; };
  return std::move(work);
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "file",
                     .summary = "questions from a task file",
                     .shorthand = "task_file",
                     .shorthand_parameter = "path",
                     .schema = [](const Json&) { return std::string(kSchema); },
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::file
