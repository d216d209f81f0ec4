// kvlab compare: two runs against each other, with an exit status for CI.

#include "eval/experiment/compare.h"

#include <charconv>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "What changed from run A to run B: the same questions and samples, metric by metric, with "
    "paired\n"
    "intervals.  A metric is worse (better) when it moved by more than its tolerance and the "
    "paired\n"
    "test, corrected for all comparisons made (Holm), says p < 0.05.  Exit status 1: something is\n"
    "worse, or a cell of A is missing in B.  Times are shown when named and never judged.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab compare runs/main runs/branch\n"
    "  kvlab compare runs/main runs/branch --tolerance 0.01 --tolerance cr=0.05\n"
    "  kvlab compare runs/a runs/a --methods 'quant(bits=4)' 'quant(bits=2)'\n"
    "  kvlab compare runs/main runs/branch --metric nll --metric decode_tok_s --json\n";

struct Options {
  std::string a{}, b{};
  std::vector<std::string> methods{}, tolerances{};
  CompareOptions compare{};
  bool allow_missing = false, json = false;
};

double number_of(const std::string& text, const std::string& given) {
  double value = -1;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  KVLAB_REQUIRE(error == std::errc() && end == last && value >= 0, "E_CONFIG",
                "compare: --tolerance ", given,
                " is no number of at least 0, and no METRIC=NUMBER");
  return value;
}

void set_tolerance(CompareOptions& options, const std::string& given) {
  const size_t split = given.find('=');
  if (split == given.npos) {
    options.tolerance = number_of(given, given);
    return;
  }
  const std::string metric = given.substr(0, split);
  catalogue().metric(metric);  // E_UNKNOWN
  options.tolerances[metric] = number_of(given.substr(split + 1), given);
}

int run_compare(Options options) {
  for (const std::string& given : options.tolerances) set_tolerance(options.compare, given);
  if (!options.methods.empty()) {
    options.compare.method_a = options.methods[0];
    options.compare.method_b = options.methods[1];
  }
  const RunComparison comparison = compare_runs(options.a, options.b, options.compare, catalogue());
  if (options.json) {
    print_json(to_json(comparison));
  } else {
    print_text(comparison_markdown(comparison));
  }
  KVLAB_REQUIRE(comparison.nan_samples == 0, "E_NONFINITE", "compare: ", comparison.nan_samples,
                " samples met logits that are not finite and are in no mean; samples.jsonl names ",
                "them");
  const bool is_whole = comparison.missing.empty() || options.allow_missing;
  return comparison.is_worse() || !is_whole ? kNegative : kDone;
}

}  // namespace

void add_compare(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("compare", kHelp);
  command.footer(kExamples);
  command.add_option("A", options->a, "run directory: what was")->required()->type_name("DIR");
  command.add_option("B", options->b, "run directory: what is")->required()->type_name("DIR");
  command
      .add_option("--methods", options->methods, "compare the first, of A, with the second, of B")
      ->expected(2)
      ->type_name("TITLE");
  command
      .add_option("--metric", options->compare.metrics,
                  "instead of the task's metrics and cr; may be repeated")
      ->allow_extra_args(false);
  command
      .add_option("--tolerance", options->tolerances,
                  "how much worse is no loss, in the metric's unit; may be repeated")
      ->type_name("[METRIC=]NUMBER")
      ->allow_extra_args(false);
  command.add_flag("--allow-mixed", options->compare.allow_mixed,
                   "also compare results of unequal data, models or protocols");
  command.add_flag("--allow-missing", options->allow_missing,
                   "cells of A that B lacks are listed and no failure");
  add_json(command, options->json);
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_compare(*options); }; });
}

}  // namespace kvlab::cli
