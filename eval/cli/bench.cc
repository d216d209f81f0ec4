// kvlab bench: how fast this machine attends over a codec's bytes.

#include "core/error.h"
#include "eval/bench/attention.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/threads.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Speed of one layer's attention, measured beside what bounds it: the "
    "memory's read bandwidth,\n"
    "the peak of multiply-adds, our own bfloat16 cache, and the faster of "
    "LibTorch's\n"
    "scaled_dot_product_attention and its matmul, softmax, matmul. All in one "
    "process, interleaved;\n"
    "medians. Keep the working set above 512 MB, else the processor's cache is "
    "what is measured.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab bench attention --codec bfloat16 --heads 32 --kv-heads 32 "
    "--head-dim 128 --tokens 32768\n"
    "  kvlab bench attention --codec int4 --heads 32 --kv-heads 8 --head-dim "
    "128 --tokens 131072 --json\n"
    "  kvlab bench attention --codec '{\"name\": \"int8\", \"params\": "
    "{\"group\": 64}}' --tokens 65536\n"
    "  kvlab bench attention --codec bfloat16 --tokens 2048 --queries 2048     "
    " a prefill\n"
    "  kvlab bench attention --codec slim --heads 6 --kv-heads 6 --head-dim 64   "
    "as a method stores rows\n";

struct Options {
  std::string codec = "bfloat16";
  AttentionBench bench{};
  MethodOptions methods{};
  bool no_torch = false, no_dense = false, json = false;
};

/// The field's short names of the codecs of floats are welcome too.
std::string codec_named(const std::string& name) {
  if (name == "fp32") return "float32";
  if (name == "fp16") return "float16";
  return name == "bf16" ? "bfloat16" : name;
}

int run_attention(const Options& options) {
  AttentionBench bench = options.bench;
  const Json codec = json_or_text(options.codec, "codec");
  if (codec.is_string()) {
    bench.codec = codec_named(codec.get<std::string>());
  } else {
    KVLAB_REQUIRE(codec.is_object() && codec.contains("name") && codec.at("name").is_string(),
                  "E_CONFIG", "bench: --codec takes a name or {\"name\": ..., \"params\": {...}}");
    bench.codec = codec_named(codec.at("name").get<std::string>());
    if (codec.contains("params")) bench.params = codec.at("params");
  }
  if (bench.threads == 0) bench.threads = thread_count();
  bench.against_torch = !options.no_torch;
  bench.against_dense = !options.no_dense;
  const Json result = bench_attention(bench, options.methods.registry());
  if (options.json) {
    print_json(result);
  } else {
    print_text(bench_attention_text(result));
  }
  return kDone;
}

void add_attention(CLI::App& bench_command, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  options->bench.threads = 0;
  AttentionBench& bench = options->bench;
  CLI::App& command = *bench_command.add_subcommand("attention", kHelp);
  command.footer(kExamples);
  const auto add = [&](const char* name, auto& value, const char* help) {
    command.add_option(name, value, help)->capture_default_str();
  };
  add("--codec", options->codec,
      "a codec (float32 or fp32, ..., int4), a method that says which numbers are stored, or "
      "{\"name\": ..., \"params\": {...}}");
  add("--heads", bench.heads, "query heads");
  add("--kv-heads", bench.kv_heads, "heads of keys and values");
  add("--head-dim", bench.head_dim, "features of a head");
  add("--tokens", bench.tokens, "tokens of each sequence");
  add("--batch", bench.batch, "sequences");
  add("--queries", bench.queries, "newest tokens that ask; more than 1: a causal prefill");
  add("--repeats", bench.repeats, "measurements of each kind");
  add("--isa", bench.isa, "instruction set (`kvlab info` lists them); empty: the best");
  add_threads(command, bench.threads);
  command.add_flag("--hadamard", bench.rotate_hadamard, "rows are rotated before they are coded");
  command.add_flag("--no-torch", options->no_torch, "do not measure LibTorch");
  command.add_flag(
      "--warm", options->bench.warm,
      "read the rows just before each measurement; else other memory, so that no cache "
      "holds them");
  command.add_flag("--no-dense", options->no_dense, "do not measure our bfloat16 cache");
  options->methods.add_plugins(command);
  add_json(command, options->json);
  command.callback([options, &invocation] {
    invocation.chosen = [options] { return run_attention(*options); };
  });
}

}  // namespace

void add_bench(CLI::App& app, Invocation& invocation) {
  CLI::App& command = *app.add_subcommand("bench", "Speeds, each beside what bounds it.");
  command.require_subcommand(1);
  add_attention(command, invocation);
}

}  // namespace kvlab::cli
