// kvlab report: the page of a run directory, made again.

#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/experiment/page_data.h"
#include "eval/experiment/report_page.h"

namespace kvlab::cli {
namespace {

constexpr const char* kHelp =
    "Makes report.html of a run directory again, from its results.jsonl, samples.jsonl and\n"
    "record.json, and prints its path.  `kvlab eval` has made one already: this is for lines that\n"
    "were merged or edited, and for a newer kvlab.\n";
constexpr const char* kExamples =
    "Examples:\n"
    "  kvlab report runs/mqar\n"
    "  kvlab report theirs/mqar --out mqar.html\n";

struct Options {
  std::string run{}, out{};
};

int run_report(const Options& options) {
  const std::filesystem::path run = options.run;
  const std::filesystem::path out =
      options.out.empty() ? run / "report.html" : std::filesystem::path(options.out);
  write_file(out, report_page(page_data(read_page_source(run), catalogue())));
  print_text(out.string() + "\n");
  return kDone;
}

}  // namespace

void add_report(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("report", kHelp);
  command.footer(kExamples);
  command.add_option("run", options->run, "run directory")->required()->type_name("DIR");
  command.add_option("--out", options->out, "instead of DIR/report.html")->type_name("FILE");
  command.callback(
      [options, &invocation] { invocation.chosen = [options] { return run_report(*options); }; });
}

}  // namespace kvlab::cli
