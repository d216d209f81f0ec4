// half(Lw): disjoint chunks of Lw tokens of which the second half is scored, the first token of
// each replaced by BOS.  The protocol of llama.cpp's perplexity tool.

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab::protocols::half {
namespace {

constexpr const char* kSchema = R"({
  "Lw": {"type": "integer", "default": 512, "unit": "token", "doc": "tokens of a chunk"}})";

Cut cut(const Json& params, const TextFacts& text) {
  const int64_t window = params.at("Lw");
  KVLAB_REQUIRE(window >= 4, "E_BAD_WINDOW", "half: Lw = ", window,
                "; a chunk of fewer than 4 tokens scores nothing");
  require_context("half", window, text);
  require_tokens("half", 2 * window, text);
  Cut cut{.label = "half(" + std::to_string(window) + ")",
          .metric_suffix = "_half" + std::to_string(window)};
  for (int64_t at = 0; at + window <= text.tokens; at += window) {
    cut.windows.push_back(whole_window({at, at + window - 1}, {at + window / 2 + 1, at + window}));
  }
  return cut;
}

}  // namespace

void register_protocol(Catalogue& catalogue) {
  catalogue.add(Protocol{.name = "half",
                         .summary = "chunks of Lw tokens of which the second half is scored",
                         .schema = kSchema,
                         .positional = {"Lw"},
                         .text_bos = Bos::replace_first,
                         .cut = cut});
}

}  // namespace kvlab::protocols::half
