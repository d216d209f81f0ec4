// stream: the whole text token by token from an empty cache.  The protocol of Quest.

#include "eval/catalogue.h"

namespace kvlab::protocols::stream {
namespace {

Cut cut(const Json&, const TextFacts& text) {
  require_tokens("stream", 2, text);
  require_context("stream", text.tokens, text);
  Cut cut{.label = "stream", .metric_suffix = "_stream"};
  cut.windows.push_back({.fed = {0, text.tokens - 1}, .scored = {1, text.tokens}});
  return cut;
}

}  // namespace

void register_protocol(Catalogue& catalogue) {
  catalogue.add(Protocol{.name = "stream",
                         .summary = "the whole text token by token from an empty cache",
                         .schema = "{}",
                         .text_bos = Bos::text_start,
                         .cut = cut});
}

}  // namespace kvlab::protocols::stream
