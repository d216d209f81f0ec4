// strided(Lw,S): a window of Lw tokens moves by S, each window scores the tokens the one before it
// did not reach.  Weighted per token; the snippet of the Hugging Face documentation weights every
// window by one token less than it reaches anew, although only the first loses a label
// (ppl_compat_hf).

#include <algorithm>

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab::protocols::strided {
namespace {

constexpr const char* kSchema = R"({
  "Lw": {"type": "integer", "default": 1024, "unit": "token", "doc": "tokens of a window"},
  "S": {"type": "integer", "default": 512, "unit": "token", "doc": "stride"}})";

Cut cut(const Json& params, const TextFacts& text) {
  const int64_t window = params.at("Lw"), stride = params.at("S");
  KVLAB_REQUIRE(window >= 2, "E_BAD_WINDOW", "strided: Lw = ", window,
                "; a window of fewer than 2 tokens scores nothing");
  KVLAB_REQUIRE(stride >= 1 && stride <= window, "E_BAD_STRIDE", "strided: S = ", stride,
                "; a stride is 1..Lw = ", window);
  require_context("strided", window, text);
  require_tokens("strided", 2, text);
  Cut cut{.label = "strided(" + std::to_string(window) + "," + std::to_string(stride) + ")",
          .metric_suffix = "_strided" + std::to_string(window) + "_" + std::to_string(stride)};
  int64_t end = 0;
  for (int64_t begin = 0; end < text.tokens; begin += stride) {
    const int64_t before = end, first = std::max(end, begin + 1);
    end = std::min(begin + window, text.tokens);
    if (first >= end) continue;
    cut.windows.push_back(whole_window({begin, end - 1}, {first, end}));
    cut.windows.back().fresh = end - before;
  }
  return cut;
}

}  // namespace

void register_protocol(Catalogue& catalogue) {
  catalogue.add(Protocol{.name = "strided",
                         .summary = "windows of Lw tokens that move by S",
                         .schema = kSchema,
                         .positional = {"Lw", "S"},
                         .text_bos = Bos::text_start,
                         .cut = cut});
}

}  // namespace kvlab::protocols::strided
