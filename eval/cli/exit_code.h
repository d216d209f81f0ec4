#pragma once
// What the command's exit status says.  One table: --help prints it, eval/README.md repeats it.

#include <span>
#include <string>
#include <string_view>

namespace kvlab::cli {

enum ExitCode {
  kDone = 0,       // what was asked was done
  kNegative = 1,   // done, and the answer is no: NaN met, a self-test failed
  kUsage = 2,      // the command line is not one
  kInput = 3,      // a config, model, text, method or plugin cannot be used
  kRefused = 4,    // the rules of measurement forbid it
  kResources = 5,  // disk, memory, time, another writer
  kInternal = 6,   // our mistake
  kInterrupted = 130
};

struct ExitMeaning {
  int code;
  std::string_view meaning;
  std::string_view errors;  // codes of errors that end so, separated by blanks
};
std::span<const ExitMeaning> exit_meanings();

/// Of an error's code; kInput for codes that no row names.
int exit_code_of(std::string_view error_code);

/// The table as --help shows it.
std::string exit_code_help();

}  // namespace kvlab::cli
