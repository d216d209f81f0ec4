// kvlab info: what this build knows, one method's card, or what a model directory holds.

#include <filesystem>
#include <map>
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

std::string_view name_of(Layer::Kind kind) {
  return kind == Layer::Kind::self ? "self" : kind == Layer::Kind::cross ? "cross" : "tap";
}

std::string_view name_of(EncoderInput input) {
  return input == EncoderInput::none        ? "none"
         : input == EncoderInput::token_ids ? "tokens"
                                            : "features";
}

Json layer_json(const Layer& layer) {
  return {{"kind", name_of(layer.kind)},
          {"heads", layer.num_heads},
          {"kv_heads", layer.num_kv_heads},
          {"head_dim", layer.head_dim},
          {"value_dim", layer.value_dim},
          {"window_left", layer.window_left},
          {"softcap", layer.softcap},
          {"rope", layer.rope.style != Rope::Style::none},
          {"distance_bias", layer.distance_bias}};
}

/// Layers that are alike, together: [{"layers": [first, last], "kind", ...}], the layers of that
/// kind from first to last; in an encoder-decoder self and cross layers alternate.
Json layers_json(const ModelShape& shape) {
  Json groups = Json::array();
  std::map<Layer::Kind, size_t> newest;  // group of a kind
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    Json one = layer_json(shape.layers[i]);
    one["layers"] = {i, i};
    const auto [group, is_first] = newest.emplace(shape.layers[i].kind, groups.size());
    if (!is_first) {
      Json& before = groups[group->second];
      one["layers"][0] = before["layers"][0];
      Json extended = before;
      extended["layers"][1] = i;
      if (extended == one) {
        before = std::move(extended);
        continue;
      }
      one["layers"][0] = i;
      group->second = groups.size();
    }
    groups.push_back(std::move(one));
  }
  return groups;
}

Json model_json(const std::string& directory) {
  const Json spec{{"path", directory}};
  const ModelOutline outline = outline_of(spec);
  const ModelShape& shape = outline.shape;
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
          {"begin_token", outline.begin_token},
          {"encoder_reads", name_of(outline.encoder_input)},
          {"weight_file_bytes", weights},
          {"tokenizer", has("tokenizer.json")    ? "tokenizer.json"
                        : has("tokenizer.model") ? "tokenizer.model"
                                                 : "none"},
          {"dense_bytes_per_token", dense_bytes_per_token(shape)},
          {"dense_bytes_per_encoder_token", dense_bytes_per_token(shape, Layer::Kind::cross)}};
}

std::string model_text(const Json& model) {
  std::string text = "# " + model.at("path").get<std::string>() + "\n\n";
  for (const char* name : {"architecture", "num_layers", "width", "vocab_size", "max_positions",
                           "tokenizer", "begin_token", "encoder_reads"}) {
    const Json& value = model.at(name);
    text += std::string(name) + ": " +
            (value.is_string() ? value.get<std::string>() : value.dump()) + "\n";
  }
  text += "weight files: " + readable_bytes(model.at("weight_file_bytes")) + "\n\n";
  TextTable table({"layers", "attention", "heads", "kv heads", "head dim", "window", "soft-cap"});
  for (const Json& group : model.at("layers")) {
    const Json& range = group.at("layers");
    const int64_t window = group.at("window_left");
    table.add({range[0].dump() + "-" + range[1].dump(), group.at("kind"), group.at("heads").dump(),
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
  if (const int64_t source = model.at("dense_bytes_per_encoder_token"); source > 0)
    text += ", and " + std::to_string(source) + " bytes per encoder token";
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
