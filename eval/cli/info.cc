// kvlab info: what this build knows, one method's card, or what a model directory holds.

#include <filesystem>
#include <set>

#include "core/error.h"
#include "core/version.h"
#include "eval/catalogue.h"
#include "eval/cli/exit_code.h"
#include "eval/cli/prepare_options.h"
#include "eval/experiment/references.h"
#include "eval/experiment/summary.h"
#include "eval/method_card.h"
#include "eval/model.h"
#include "eval/prepare.h"
#include "eval/text_table.h"
#include "kernels/cpu_engine.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Without an argument: the methods, tasks and protocols of this build.\n"
    "With a method (name, a+b, or JSON): its card. Parameters with defaults and ranges, what it\n"
    "promises, and the bytes per token it really takes in caches of well-known shapes.\n"
    "With a method and --model: what its offline step finds there, as `kvlab prepare` prints it;\n"
    "nothing is written.\n"
    "With a method and --paper: the tables of its paper, computed anew.\n"
    "With a model directory: its shape and what a dense cache takes.\n"
    "With --references: numbers that others have published, of all methods or of the one named.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab info\n"
    "  kvlab info quant\n"
    "  kvlab info '{\"name\": \"quant\", \"params\": {\"bits\": 2}}' --json\n"
    "  kvlab info window+quant --tokens 32768\n"
    "  kvlab info METHOD --model DIR --text calibration.txt\n"
    "  kvlab info METHOD --paper\n"
    "  kvlab info path/to/model\n"
    "  kvlab info dense --references\n";

struct Options {
  std::string what{};
  MethodOptions methods{};
  PrepareOptions prepare{};
  int64_t tokens = 4096;
  bool references = false, paper = false, json = false;
};

Json overview(const Registry& registry) {
  Json methods = Json::array(), tasks = Json::array(), protocols = Json::array();
  for (const std::string& name : registry.methods()) {
    methods.push_back({{"name", name}, {"summary", registry.method(name).summary}});
  }
  for (const std::string& name : catalogue().tasks()) {
    tasks.push_back({{"name", name}, {"summary", catalogue().task(name).summary}});
  }
  for (const std::string& name : catalogue().protocols()) {
    protocols.push_back({{"name", name}, {"summary", catalogue().protocol(name).summary}});
  }
  return {{"methods", methods},
          {"codecs", registry.codecs()},
          {"tasks", tasks},
          {"protocols", protocols},
          {"instruction_sets", cpu_instruction_sets()}};
}

std::string joined(const Json& names) {
  std::string text;
  for (const Json& name : names) text += (text.empty() ? "" : ", ") + name.get<std::string>();
  return text;
}

std::string overview_text(const Json& all) {
  std::string text;
  for (const auto& [kind, title] :
       {std::pair{"methods", "method"}, {"tasks", "task"}, {"protocols", "perplexity protocol"}}) {
    TextTable table({title, "what it is"});
    for (const Json& entry : all.at(kind)) table.add({entry.at("name"), entry.at("summary")});
    text += table.markdown() + "\n";
  }
  return text + "codecs: " + joined(all.at("codecs")) +
         "\ninstruction sets: " + joined(all.at("instruction_sets")) +
         "\n\n`kvlab info METHOD` shows a method's card, `kvlab info DIR` a model.\n";
}

Json layer_json(const Layer& layer) {
  return {{"heads", layer.num_heads},
          {"kv_heads", layer.num_kv_heads},
          {"head_dim", layer.head_dim},
          {"value_dim", layer.value_dim},
          {"window_left", layer.window_left},
          {"softcap", layer.softcap},
          {"rope", layer.rope.style != Rope::Style::none}};
}

/// Layers that are alike, together: [{"layers": [first, last], ...}].
Json layers_json(const ModelShape& shape) {
  Json groups = Json::array();
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    Json one = layer_json(shape.layers[i]);
    if (!groups.empty()) {
      Json before = groups.back();
      before.erase("layers");
      if (before == one) {
        groups.back()["layers"][1] = i;
        continue;
      }
    }
    one["layers"] = {i, i};
    groups.push_back(std::move(one));
  }
  return groups;
}

Json model_json(const std::string& directory) {
  const Json spec{{"path", directory}};
  const ModelShape shape = shape_of(spec);
  int64_t weights = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") {
      weights += static_cast<int64_t>(entry.file_size());
    }
  }
  const auto has = [&](const char* name) {
    return std::filesystem::exists(std::filesystem::path(directory) / name);
  };
  return {{"path", directory},
          {"architecture", shape.architecture},
          {"width", shape.width},
          {"vocab_size", shape.vocab_size},
          {"max_positions", shape.max_positions},
          {"layers", layers_json(shape)},
          {"num_layers", shape.layers.size()},
          {"begin_token", begin_token_of(spec)},
          {"weight_file_bytes", weights},
          {"tokenizer", has("tokenizer.json")    ? "tokenizer.json"
                        : has("tokenizer.model") ? "tokenizer.model"
                                                 : "none"},
          {"dense_bytes_per_token", dense_bytes_per_token(shape)}};
}

std::string model_text(const Json& model) {
  std::string text = "# " + model.at("path").get<std::string>() + "\n\n";
  for (const char* name : {"architecture", "num_layers", "width", "vocab_size", "max_positions",
                           "tokenizer", "begin_token"}) {
    const Json& value = model.at(name);
    text += std::string(name) + ": " +
            (value.is_string() ? value.get<std::string>() : value.dump()) + "\n";
  }
  text += "weight files: " + readable_bytes(model.at("weight_file_bytes")) + "\n\n";
  TextTable table({"layers", "heads", "kv heads", "head dim", "window", "soft-cap"});
  for (const Json& group : model.at("layers")) {
    const Json& range = group.at("layers");
    const int64_t window = group.at("window_left");
    table.add({range[0].dump() + "-" + range[1].dump(), group.at("heads").dump(),
               group.at("kv_heads").dump(), group.at("head_dim").dump(),
               window < 0 ? "none" : std::to_string(window), group.at("softcap").dump()});
  }
  const int64_t per_token = model.at("dense_bytes_per_token");
  text +=
      table.markdown() + "\ndense cache, 16 bit: " + std::to_string(per_token) + " bytes per token";
  if (const int64_t most = model.at("max_positions"); most > 0) {
    text += ", " + readable_bytes(static_cast<double>(per_token) * static_cast<double>(most)) +
            " at " + std::to_string(most) + " tokens";
  }
  return text + "\n";
}

/// Of one method, or of all.  E_UNKNOWN.
std::vector<const Reference*> references_of(const std::string& method) {
  std::vector<const Reference*> found;
  std::set<std::string> known;
  for (const Reference& row : references().rows()) {
    known.insert(row.method);
    if (method.empty() || row.method == method) found.push_back(&row);
  }
  KVLAB_REQUIRE(!found.empty(), "E_UNKNOWN", "info: no published number of `", method, "`",
                suggestion(method, std::vector<std::string>(known.begin(), known.end())));
  return found;
}

int print_references(const Options& options) {
  const std::vector<const Reference*> found = references_of(options.what);
  Json rows = Json::array();
  for (const Reference* row : found) rows.push_back(to_json(*row));
  if (options.json) {
    print_json({{"references", std::move(rows)}});
  } else {
    print_text(std::string(kReportedElsewhere) + "\n\n" + references_markdown(found));
  }
  return kDone;
}

int print_paper(const Options& options, const Registry& registry) {
  const auto specs = parse_methods(json_or_text(options.what, "method"), registry);
  KVLAB_REQUIRE(specs.size() == 1, "E_CONFIG", "info: `", label(specs), "` is ", specs.size(),
                " methods; --paper shows the tables of one");
  const Method& method = registry.method(specs[0].name);
  KVLAB_REQUIRE(method.paper != nullptr, "E_UNSUPPORTED", "info: ", method.name,
                " has no tables of a paper to compute anew");
  const Json paper = method.paper();
  std::string text;
  for (const Json& table : paper.at("tables"))
    text += "## " + table.at("title").get<std::string>() + "\n\n" + table_text(table) + "\n";
  if (options.json) {
    print_json(paper);
  } else {
    print_text(text);
  }
  return kDone;
}

int print_findings(const Options& options, const Registry& registry) {
  const MethodSpec method = method_to_prepare(json_or_text(options.what, "method"), registry);
  const Artifact artifact = options.prepare.run(method, registry);
  if (options.json) {
    print_json(artifact.header());
    return kDone;
  }
  const std::string text = findings_text(artifact);
  print_text(text.empty() ? method.name +
                                ": its offline step has nothing to show; `kvlab prepare` "
                                "writes what it makes\n"
                          : text);
  return kDone;
}

int run_info(const Options& options) {
  if (options.references) return print_references(options);
  const Registry registry = options.methods.registry();
  if (options.paper) return print_paper(options, registry);
  if (!options.prepare.model.model.empty()) return print_findings(options, registry);
  Json document;
  std::string (*text)(const Json&) = nullptr;
  if (options.what.empty()) {
    document = overview(registry);
    text = overview_text;
  } else if (std::filesystem::is_directory(options.what)) {
    document = model_json(options.what);
    text = model_text;
  } else {
    KVLAB_REQUIRE(options.what.find('/') == options.what.npos || options.what[0] == '{', "E_FILE",
                  options.what, ": there is no such directory");
    const auto specs = parse_methods(json_or_text(options.what, "method"), registry);
    document = method_card(specs, registry, make_cpu_engine(), options.tokens);
    text = method_card_text;
  }
  if (options.json) {
    print_json(document);
  } else {
    print_text(text(document));
  }
  return kDone;
}

}  // namespace

void add_info(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("info", kHelp);
  command.footer(kExamples);
  CLI::Option& what = *command.add_option("what", options->what, "a method or a model directory")
                           ->type_name("METHOD|DIR");
  CLI::Option& model = *options->prepare.add(command, "--tokens-file").required(false);
  model.needs(&what);
  command.add_option("--tokens", options->tokens, "length of the prefill that a card measures")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_flag("--references", options->references,
                   "numbers that others have published, not comparable with ours");
  command.add_flag("--paper", options->paper, "the tables of a method's paper, computed anew")
      ->needs(&what)
      ->excludes(&model);
  options->methods.add_plugins(command);
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_info(*options); }; });
}

}  // namespace kvlab::cli
