// disjoint(Lw): the text in chunks of Lw tokens, each read in one pass; the remainder is dropped.
// The protocol of GPTQ, KVQuant and Palu.

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab::protocols::disjoint {
namespace {

constexpr const char* kSchema = R"({
  "Lw": {"type": "integer", "default": 2048, "unit": "token", "doc": "tokens of a window"}})";

Cut cut(const Json& params, const TextFacts& text) {
  const int64_t window = params.at("Lw");
  KVLAB_REQUIRE(window >= 2, "E_BAD_WINDOW", "disjoint: Lw = ", window,
                "; a window of fewer than 2 tokens scores nothing");
  require_context("disjoint", window, text);
  require_tokens("disjoint", window, text);
  Cut cut{.label = "disjoint(" + std::to_string(window) + ")",
          .metric_suffix = "_disjoint" + std::to_string(window)};
  for (int64_t at = 0; at + window <= text.tokens; at += window) {
    cut.windows.push_back(whole_window({at, at + window - 1}, {at + 1, at + window}));
  }
  return cut;
}

}  // namespace

void register_protocol(Catalogue& catalogue) {
  catalogue.add(Protocol{.name = "disjoint",
                         .summary = "chunks of Lw tokens, each in one pass",
                         .schema = kSchema,
                         .positional = {"Lw"},
                         .text_bos = Bos::text_start,
                         .cut = cut});
}

}  // namespace kvlab::protocols::disjoint
