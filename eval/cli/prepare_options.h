#pragma once
// What `kvlab prepare` and `kvlab info METHOD --model DIR` share: a method's offline step, and how
// tables are shown.

#include <string>

#include "core/artifact.h"
#include "eval/cli/command.h"

namespace kvlab::cli {

struct PrepareOptions {
  ModelOptions model{};
  std::string text{}, tokens{};
  int threads = 0;

  /// --model with --dtype, --text or a token file under the names given, --threads.  Returns
  /// --model, which is required.
  CLI::Option& add(CLI::App& command, const std::string& tokens_names);
  /// Runs the method's offline step, with progress on stderr.  What method_to_prepare refuses.
  Artifact run(const MethodSpec& method, const Registry& registry) const;
};

/// {"columns": [...], "rows": [[...]]}, cells strings or numbers, as Markdown.
std::string table_text(const Json& table);

/// "table" and "notes" (a list of sentences) of what an offline step made, where it wrote them.
std::string findings_text(const Artifact& artifact);

}  // namespace kvlab::cli
