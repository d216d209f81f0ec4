#include "eval/cli/exit_code.h"

#include <array>

namespace kvlab::cli {
namespace {

constexpr std::array<ExitMeaning, 8> kMeanings = {{
    {kDone, "done", ""},
    {kNegative,
     "done, and the answer is no: NaN met, a promise broken, a self-test failed, a run is worse or "
     "lacks a cell",
     "E_NONFINITE E_NOT_EXACT"},
    {kUsage, "not a command line of kvlab", "E_USAGE"},
    {kInput, "a config, model, text, method or plugin cannot be used", "all others"},
    {kRefused, "the rules of measurement forbid it",
     "E_METHOD_CANNOT_MATTER E_NONCAUSAL_STORED_READ E_INCOMPARABLE E_BYTES_MISMATCH "
     "E_READS_FUTURE"},
    {kResources, "disk, memory or time ran out, a worker died, or another process is writing there",
     "E_DISK E_MEMORY E_FULL E_BUSY E_TIME E_WORKER"},
    {kInternal, "a mistake in kvlab itself", "E_INTERNAL"},
    {kInterrupted, "interrupted; what was finished is kept", "E_INTERRUPTED"},
}};

bool lists(std::string_view errors, std::string_view code) {
  for (size_t at = errors.find(code); at != errors.npos; at = errors.find(code, at + 1)) {
    const size_t end = at + code.size();
    if ((at == 0 || errors[at - 1] == ' ') && (end == errors.size() || errors[end] == ' '))
      return true;
  }
  return false;
}

}  // namespace

std::span<const ExitMeaning> exit_meanings() { return kMeanings; }

int exit_code_of(std::string_view error_code) {
  for (const ExitMeaning& meaning : kMeanings) {
    if (lists(meaning.errors, error_code)) return meaning.code;
  }
  return kInput;
}

std::string exit_code_help() {
  std::string text = "Exit status:\n";
  for (const ExitMeaning& meaning : kMeanings) {
    const std::string code = std::to_string(meaning.code);
    text += "  " + code + std::string(5 - code.size(), ' ') + std::string(meaning.meaning);
    if (!meaning.errors.empty()) text += " (" + std::string(meaning.errors) + ")";
    text += "\n";
  }
  return text;
}

}  // namespace kvlab::cli
