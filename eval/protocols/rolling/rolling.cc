// rolling(Lw): blocks of Lw tokens that overlap by one, so that every token is scored exactly once,
// the first one after a BOS.  The protocol of lm-evaluation-harness.

#include <algorithm>

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab::protocols::rolling {
namespace {

constexpr const char* kSchema = R"({
  "Lw": {"type": "integer", "default": 2048, "unit": "token", "doc": "tokens fed in a block"}})";

Cut cut(const Json& params, const TextFacts& text) {
  const int64_t window = params.at("Lw");
  KVLAB_REQUIRE(window >= 1, "E_BAD_WINDOW", "rolling: Lw = ", window,
                "; a block has at least 1 token");
  require_context("rolling", window, text);
  require_tokens("rolling", 1, text);
  Cut cut{.label = "rolling(" + std::to_string(window) + ")",
          .metric_suffix = "_rolling" + std::to_string(window)};
  const int64_t first = std::min(window, text.tokens);
  cut.windows.push_back(whole_window({0, first - 1}, {0, first}));
  cut.windows.back().prefixed = true;
  for (int64_t at = first; at < text.tokens; at += window) {
    const int64_t end = std::min(at + window, text.tokens);
    // A short last block is extended to the left.
    cut.windows.push_back(whole_window({end - 1 - window, end - 1}, {at, end}));
  }
  return cut;
}

}  // namespace

void register_protocol(Catalogue& catalogue) {
  catalogue.add(Protocol{.name = "rolling",
                         .summary = "every token scored once, in blocks of Lw",
                         .schema = kSchema,
                         .positional = {"Lw"},
                         .cut = cut});
}

}  // namespace kvlab::protocols::rolling
