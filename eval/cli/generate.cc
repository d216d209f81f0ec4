// kvlab generate: a continuation that reads a compressed cache.

#include "eval/generate.h"

#include <filesystem>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/experiment/summary.h"
#include "eval/footprint.h"
#include "eval/process.h"
#include "eval/rules.h"
#include "eval/text.h"
#include "eval/threads.h"
#include "eval/token_file.h"
#include "eval/tokenizer.h"
#include "kernels/cpu_engine.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Continues a prompt through a compressed cache: greedily, or sampled with a seed.\n"
    "\n"
    "The prompt is prefilled in chunks and compressed; its last token is then fed through the\n"
    "compressed cache, so that already the first new token reads what was stored.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab generate --model DIR --prompt 'Once upon a time' --max-new 64\n"
    "  kvlab generate --model DIR --prompt-tokens ids.json --max-new 32 --method quant --json\n"
    "  kvlab generate --model DIR --prompt-file p.txt --max-new 64 --temperature 0.8 --seed 1\n"
    "\n"
    "With --json: tokens (new ones, without an end token), text (where the model has a "
    "tokenizer),\n"
    "end_token, cache_bytes, dense_bytes, weight_bytes, scratch_peak_bytes, peak_rss_bytes, "
    "timing, ...\n";

struct Options {
  ModelOptions model{};
  MethodOptions method{};
  std::string prompt{}, prompt_file{}, prompt_tokens{}, read_policy = "raw_chunk";
  GenerateOptions generate{.max_new = 0, .first = GenerateOptions::First::of_cache};
  int threads = 0;
  bool json = false;
};

struct PromptTokens {
  std::vector<int32_t> tokens{};
  std::optional<ModelTokenizer> tokenizer{};  // of the model, where it has one
};

bool has_tokenizer(const Json& spec) {
  if (!spec.contains("path")) return false;
  const std::filesystem::path folder = spec.at("path").get<std::string>();
  return std::filesystem::exists(folder / "tokenizer.json") ||
         std::filesystem::exists(folder / "tokenizer.model");
}

PromptTokens read_prompt(const Options& options, const Json& spec, int64_t vocab_size) {
  PromptTokens prompt;
  if (has_tokenizer(spec)) prompt.tokenizer.emplace(spec.at("path").get<std::string>());
  if (!options.prompt_tokens.empty()) {
    prompt.tokens = read_token_file(options.prompt_tokens, vocab_size);
  } else {
    KVLAB_REQUIRE(prompt.tokenizer, "E_NO_TOKENIZER", "generate: the model has no tokenizer to ",
                  "read a text with; use --prompt-tokens");
    const std::string text =
        options.prompt_file.empty() ? options.prompt : read_text(options.prompt_file);
    prompt.tokens = prompt.tokenizer->encode(text, Tokenizer::Special::as_model);
  }
  KVLAB_REQUIRE(!prompt.tokens.empty(), "E_TEXT_TOO_SHORT", "generate: the prompt is empty; it ",
                "needs at least 1 token");
  return prompt;
}

/// What is held at the end, and the most that the process ever held.
Json memory_json(const Cache& cache, SeqId sequence, const Model& model) {
  const Footprint held = footprint(cache, sequence, model.dtype());
  return {
      {"cache_bytes", held.cache_bytes()},       {"dense_bytes", held.dense},
      {"dense_bytes_run_dtype", held.dense_run}, {"committed_bytes", held.committed},
      {"weight_bytes", model.weight_bytes()},    {"scratch_peak_bytes", cache.bytes().scratch_peak},
      {"peak_rss_bytes", peak_resident_bytes()}};
}

int run_generate(const Options& options) {
  const Registry registry = options.method.registry();
  const Json spec = options.model.spec();
  const auto specs = parse_methods(options.method.spec(), registry);
  const ModelShape config_shape = shape_of(spec);
  refuse_encoder(config_shape, "generate");
  check_composition(specs, config_shape, registry);
  PromptTokens prompt = read_prompt(options, spec, config_shape.vocab_size);
  const auto length = static_cast<int64_t>(prompt.tokens.size());
  KVLAB_REQUIRE(config_shape.max_positions <= 0 ||
                    length + options.generate.max_new <= config_shape.max_positions,
                "E_CONTEXT_TOO_LONG", "generate: a prompt of ", length, " tokens and ",
                options.generate.max_new, " new ones, the model has ", config_shape.max_positions,
                " positions");
  const std::unique_ptr<Model> model = load_model(spec);
  const int threads =
      options.threads > 0 ? options.threads : useful_threads(thread_count(), model->weight_bytes());
  set_thread_count(threads);
  const Composition composition =
      compose(specs, model->shape(), registry, model->access().get(), model->dtype());
  GenerateOptions generate_options = options.generate;
  generate_options.read = read_policy_named(options.read_policy);
  check_reading(composition, label(specs), generate_options.read);
  generate_options.end_tokens = model->end_tokens();

  Cache cache(model->shape(), composition, registry,
              {.engine = make_cpu_engine({.threads = threads}), .run_dtype = model->dtype()});
  const SeqId sequence = cache.add_sequence();
  const double begin = seconds_now();
  const Prompt prompts[] = {{sequence, prompt.tokens}};
  const Generated made = generate(*model, cache, prompts, generate_options).at(0);
  const double seconds = seconds_now() - begin;

  const std::string text = prompt.tokenizer ? prompt.tokenizer->decode(made.tokens) : "";
  if (options.json) {
    Json document{{"tokens", made.tokens},
                  {"end_token", made.end_token},
                  {"prompt_tokens", prompt.tokens.size()},
                  {"method", label(specs)},
                  {"methods", describe(specs)},
                  {"model", spec},
                  {"dtype", name_of(model->dtype())},
                  {"threads", threads},
                  {"read_policy", options.read_policy},
                  {"timing", {{"seconds", seconds}}}};
    document.update(memory_json(cache, sequence, *model));
    if (prompt.tokenizer) document["text"] = text;
    print_json(document);
  } else {
    print_text((prompt.tokenizer ? text : Json(made.tokens).dump()) + "\n");
  }
  return kDone;
}

}  // namespace

void add_generate(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("generate", kHelp);
  command.footer(kExamples);
  options->model.add(command);
  auto& source = *command.add_option_group("prompt", "what is continued");
  source.add_option("--prompt", options->prompt, "the text itself")->type_name("TEXT");
  source.add_option("--prompt-file", options->prompt_file, "UTF-8 file")->type_name("FILE");
  source
      .add_option("--prompt-tokens", options->prompt_tokens,
                  "token file: a JSON list of integers, or integers separated by blanks")
      ->type_name("FILE");
  source.require_option(1);
  command.add_option("--max-new", options->generate.max_new, "new tokens at most")
      ->type_name("N")
      ->required()
      ->check(CLI::PositiveNumber);
  options->method.add(command);
  command
      .add_option("--prefill-chunk", options->generate.prefill_chunk,
                  "prefill so many tokens at a time; 0: all at once")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--read-policy", options->read_policy,
                  "what a pass reads of its own tokens: raw_chunk, stored, masked")
      ->type_name("POLICY")
      ->capture_default_str();
  command
      .add_option("--temperature", options->generate.sampling.temperature,
                  "0: the likeliest token; above: sampled")
      ->type_name("T")
      ->capture_default_str();
  command.add_option("--top-k", options->generate.sampling.top_k, "of the k likeliest; 0: of all")
      ->type_name("K")
      ->capture_default_str();
  command
      .add_option("--top-p", options->generate.sampling.top_p,
                  "of the fewest likeliest that reach this probability")
      ->type_name("P")
      ->capture_default_str();
  command.add_option("--seed", options->generate.sampling.seed, "of the sampling")
      ->type_name("N")
      ->capture_default_str();
  add_threads(command, options->threads);
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_generate(*options); }; });
}

}  // namespace kvlab::cli
