// kvlab ppl: perplexity of one text with one method, beside the dense cache on the same tokens.

#include <algorithm>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/cli/progress.h"
#include "eval/experiment/run.h"
#include "eval/experiment/summary.h"
#include "eval/model.h"
#include "eval/rules.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Perplexity of a text, read through a compressed cache and, always, through the dense one.\n"
    "\n"
    "The default protocol decode(P,S,c,g) prefills P tokens in chunks of g, compresses, and "
    "scores\n"
    "the S tokens after them through the compressed cache, c at a time; further windows follow.\n"
    "disjoint(Lw) reads windows of Lw tokens in one pass: a method that only compresses cannot\n"
    "change such a score and is refused, unless --read-policy stored or masked makes the pass "
    "read\n"
    "its own tokens as they are stored.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab ppl --model DIR --text book.txt\n"
    "  kvlab ppl --model DIR --text book.txt --method quant --protocol 'decode(768,255)'\n"
    "  kvlab ppl --model DIR --tokens ids.json --protocol 'disjoint(2048)' --read-policy stored "
    "\\\n"
    "      --method '{\"name\": \"quant\", \"params\": {\"bits\": 4}}' --per-token --json\n"
    "\n"
    "With --json: nats_per_token, tokens (scored), cache_bytes (of the largest window, at its "
    "end),\n"
    "dense_bytes (a dense 16-bit cache of the same tokens), per_token (--per-token), dense, ...\n";

struct Options {
  ModelOptions model{};
  MethodOptions method{};
  std::string text{}, tokens{}, protocol = "decode", read_policy = "raw_chunk", bos = "auto";
  std::optional<int64_t> prefill_chunk{};
  int64_t windows = 0;
  bool freeze = false, per_token = false, json = false;
  RunOptions run{.digest_models = false};
};

/// The command line as the config of an experiment.
Json config_of(const Options& options) {
  Json task = parse_protocol(options.protocol, catalogue());
  const auto set = [&](const char* key, const Json& value, bool given) {
    if (given) task[key] = value;
  };
  set("text", options.text, !options.text.empty());
  set("tokens", options.tokens, !options.tokens.empty());
  set("bos", options.bos, true);
  set("windows", options.windows, options.windows > 0);
  set("freeze", true, options.freeze);
  Json matrix{{"read_policy", {options.read_policy}}};
  if (options.prefill_chunk) {
    KVLAB_REQUIRE(!task.contains("g") || task["g"] == *options.prefill_chunk, "E_CONFIG",
                  "ppl: --prefill-chunk ", *options.prefill_chunk,
                  " and g = ", task.value("g", Json()).dump(),
                  " of --protocol differ; give one of them");
    matrix["prefill_chunk"] = {*options.prefill_chunk};
  }
  return {{"schema", kConfigSchema},
          {"name", "ppl"},
          {"model", options.model.spec()},
          {"tasks", {task}},
          {"methods", {options.method.spec()}},
          {"matrix", matrix}};
}

const Outcome& largest(const CellOutcome& cell) {
  return *std::max_element(
      cell.samples.begin(), cell.samples.end(),
      [](const auto& a, const auto& b) { return a.end.cache_bytes() < b.end.cache_bytes(); });
}

std::vector<double> per_token(const CellOutcome& cell) {
  std::vector<double> all;
  for (const Outcome& sample : cell.samples) {
    if (!sample.is_nan) all.insert(all.end(), sample.nll.begin(), sample.nll.end());
  }
  return all;
}

/// Every metric of a cell: {"ppl": 5.1, "cr": 3.9, ...}; intervals under "<name>_ci".
Json metrics_json(const FinishedCell& cell, const FinishedCell& dense) {
  Json all = Json::object(), timing = Json::object();
  for (const Json& line : result_lines(cell, dense, catalogue())) {
    const std::string name = line.at("metric");
    (line.contains("timing") ? timing : all)[name] = line.at("value");
    if (line.contains("ci") && !line.contains("timing")) all[name + "_ci"] = line.at("ci");
  }
  all["timing"] = std::move(timing);
  return all;
}

Json cell_json(const FinishedCell& cell, const FinishedCell& dense, bool with_tokens) {
  const Outcome& window = largest(cell.outcome);
  const std::vector<double> tokens = per_token(cell.outcome);
  double sum = 0;
  for (const double nats : tokens) sum += nats;
  Json json = metrics_json(cell, dense);
  json["nats_per_token"] = tokens.empty() ? Json() : Json(sum / static_cast<double>(tokens.size()));
  json["tokens"] = tokens.size();
  json["cache_bytes"] = window.end.cache_bytes();
  json["dense_bytes"] = window.end.dense;
  json["dense_bytes_run_dtype"] = window.end.dense_run;
  json["kernels"] = to_json(cell.outcome).at("kernels");
  json["nan_samples"] = cell.outcome.nan_samples();
  json["compress_events"] = window.compress_events;
  json["first_scored_after_compress"] = window.first_scored_after_compress;
  json["method"] = cell.cell->title;
  if (with_tokens) json["per_token"] = tokens;
  return json;
}

Json document(const FinishedCell& cell, const FinishedCell& dense, const Options& options) {
  Json json = cell_json(cell, dense, options.per_token);
  json.update({{"protocol", cell.facts.protocol},
               {"read_policy", cell.facts.read_policy},
               {"prefill_chunk", cell.facts.prefill_chunk},
               {"score_chunk", cell.facts.score_chunk},
               {"bos", cell.data.at("bos")},
               {"tokenizer_sha", cell.facts.tokenizer_sha},
               {"data_sha", cell.facts.data_sha},
               {"dtype", cell.outcome.dtype},
               {"windows", cell.outcome.samples.size()},
               {"model", cell.cell->model},
               {"task", cell.cell->task.params},
               {"methods", describe(cell.cell->method)},
               {"warnings", cell.outcome.warnings},
               {"dense", cell_json(dense, dense, options.per_token)}});
  return json;
}

int run_ppl(const Options& options) {
  const Registry registry = options.method.registry();
  const Experiment experiment = parse_experiment(config_of(options), {}, registry, catalogue());
  refuse_encoder(shape_of(options.model.spec()), "ppl");
  Progress progress;
  watch_interrupts();
  const RunResult result =
      run_experiment(experiment, registry, catalogue(), options.run, observe(progress));
  progress.clear();
  KVLAB_REQUIRE(result.stopped.empty(), "E_INTERRUPTED", "ppl: ", result.stopped);
  const FinishedCell &dense = result.finished.front(), &cell = result.finished.back();
  if (options.json) {
    print_json(document(cell, dense, options));
  } else {
    print_summary(summary_markdown("Perplexity", result.cells(), catalogue(), false));
    if (options.per_token) print_text(Json(per_token(cell.outcome)).dump() + "\n");
  }
  KVLAB_REQUIRE(result.nan_samples == 0, "E_NONFINITE", "ppl: ", result.nan_samples,
                " windows met logits that are not finite (", largest(cell.outcome).nan_where,
                "); they are in no mean");
  KVLAB_REQUIRE(result.broken.empty(), "E_NOT_EXACT", "ppl: ", result.broken.front());
  return kDone;
}

}  // namespace

void add_ppl(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("ppl", kHelp);
  command.footer(kExamples);
  options->model.add(command);
  auto& text = *command.add_option("--text", options->text,
                                   "UTF-8 file, read through the model's own tokenizer");
  auto& tokens =
      *command.add_option("--tokens-file,--tokens", options->tokens,
                          "token file: a JSON list of integers, or integers separated by blanks");
  text.type_name("FILE")->excludes(&tokens);
  tokens.type_name("FILE");
  options->method.add(command);
  command
      .add_option("--protocol", options->protocol,
                  "decode(P,S,c,g), disjoint(Lw), strided(Lw,S), half(Lw), rolling(Lw), stream")
      ->type_name("P")
      ->capture_default_str();
  command
      .add_option("--prefill-chunk", options->prefill_chunk,
                  "prefill so many tokens at a time; 0: all at once (default: the protocol's)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--read-policy", options->read_policy,
                  "what a pass reads of its own tokens: raw_chunk, stored, masked")
      ->type_name("POLICY")
      ->capture_default_str();
  command
      .add_option("--bos", options->bos,
                  "none, text_start, each_window, replace_first; auto: as the protocol says for a "
                  "text whose tokenizer adds BOS, none for a token file")
      ->type_name("HOW")
      ->capture_default_str();
  command.add_option("--windows", options->windows, "only the first so many windows")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command.add_flag("--freeze", options->freeze, "decode: compress nothing after the prefix");
  command.add_flag("--per-token", options->per_token, "also print the nats of every scored token");
  command.add_flag("--allow-vacuous", options->run.allow_vacuous,
                   "print a score that the method cannot change");
  add_threads(command, options->run.threads);
  add_json(command, options->json);
  command.callback([options, &invocation] {
    invocation.chosen = [options] {
      KVLAB_REQUIRE(options->text.empty() != options->tokens.empty(), "E_USAGE",
                    "ppl: give exactly one of --text and --tokens; see `kvlab ppl --help`");
      return run_ppl(*options);
    };
  });
}

}  // namespace kvlab::cli
