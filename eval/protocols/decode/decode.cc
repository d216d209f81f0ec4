// decode(P,S,c,g): a prefix is prefilled and compressed, then every scored token reads the
// compressed cache.  The default for any cache method: the only protocol in which it always
// matters.

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab::protocols::decode {
namespace {

constexpr const char* kSchema = R"({
  "P": {"type": ["integer", "null"], "default": null, "unit": "token",
        "doc": "prefix that is prefilled and compressed; null: 3/4 of the model's context"},
  "S": {"type": ["integer", "null"], "default": null, "unit": "token",
        "doc": "tokens scored after it; null: 1/4 of the model's context, less one"},
  "c": {"type": "integer", "default": 1, "minimum": 1, "unit": "token",
        "doc": "scored tokens fed at a time"},
  "g": {"type": "integer", "default": 512, "minimum": 0, "unit": "token",
        "doc": "prefill chunk; 0: the prefix at once"},
  "freeze": {"type": "boolean", "default": false,
             "doc": "compress nothing after the prefix: what follows is read as it came"}})";

int64_t length(const Json& given, int64_t standard) {
  return given.is_null() ? standard : given.get<int64_t>();
}

Cut cut(const Json& params, const TextFacts& text) {
  const Json &p = params.at("P"), &s = params.at("S");
  KVLAB_REQUIRE((!p.is_null() && !s.is_null()) || text.max_positions > 0, "E_BAD_WINDOW",
                "decode: the model states no context length; give P and S, e.g. decode(768,255)");
  const int64_t three_quarters = 3 * text.max_positions / 4;
  const int64_t prefix = length(p, three_quarters < 64 ? three_quarters : three_quarters / 64 * 64);
  const int64_t scored = length(s, text.max_positions / 4 - 1);
  KVLAB_REQUIRE(prefix >= 1 && scored >= 1, "E_BAD_WINDOW", "decode: P = ", prefix,
                " and S = ", scored, "; both must be at least 1");
  const int64_t window = prefix + scored + 1;
  require_context("decode", window, text);
  require_tokens("decode", window, text);

  const bool freeze = params.at("freeze");
  Cut cut{.prefill_chunk = params.at("g"), .score_chunk = params.at("c")};
  cut.label = "decode(" + std::to_string(prefix) + "," + std::to_string(scored) + "," +
              (freeze ? "freeze" : std::to_string(cut.score_chunk)) + ")";
  if (freeze) {
    // One pass over everything after the prefix reads the prefix as stored and itself as it came.
    cut.score_chunk = 0;
    cut.needs_raw_chunk = true;
  }
  for (int64_t at = 0; at + window <= text.tokens; at += window) {
    // x_P is fed but not scored: its logits came from the prefill.
    cut.windows.push_back({.fed = {at, at + prefix + scored},
                           .prompt = prefix,
                           .scored = {at + prefix + 1, at + window}});
  }
  return cut;
}

}  // namespace

void register_protocol(Catalogue& catalogue) {
  catalogue.add(Protocol{.name = "decode",
                         .summary = "prefill and compress P tokens, score S through the cache",
                         .schema = kSchema,
                         .positional = {"P", "S", "c", "g"},
                         .text_bos = Bos::each_window,
                         .cut = cut});
}

}  // namespace kvlab::protocols::decode
