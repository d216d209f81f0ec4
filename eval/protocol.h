#pragma once
// Perplexity protocols: how one text is cut into windows, what of a window is prefilled, what is
// scored.  A protocol is a plain value in the catalogue; a folder of eval/protocols/ adds one.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/types.h"
#include "eval/sample.h"

namespace kvlab {

/// Whether and where a BOS token is fed that is no token of the text.
///   none           nowhere
///   text_start     ahead of the whole text, as its first token
///   each_window    ahead of each window, at position 0; it is not counted
///   replace_first  in place of each window's first token
enum class Bos : u8 { none, text_start, each_window, replace_first };
std::string_view name_of(Bos bos);
Bos bos_named(std::string_view name);  // E_CONFIG

/// Tokens of the text [first, last).  Token t is scored from the logits of token t - 1.
struct Window {
  Range fed{};
  int64_t prompt = 0;  // the first `prompt` fed tokens are prefilled (and the cache compressed),
                       // the rest is fed in chunks of score_chunk
  Range scored{};
  bool prefixed = false;  // a BOS is fed before them, whatever the handling of BOS
  int64_t fresh = 0;      // tokens the window before did not reach, where a metric asks
};

/// What a protocol knows of a text.
struct TextFacts {
  int64_t tokens = 0;         // n
  int64_t max_positions = 0;  // of the model; 0: no limit
};

struct Cut {
  std::vector<Window> windows{};
  std::string label{};           // "decode(768,255,1)": what results print
  std::string metric_suffix{};   // "_disjoint2048" where the window is part of a metric's name
  int64_t prefill_chunk = 0;     // unless the experiment says otherwise; 0: the prompt at once
  int64_t score_chunk = 1;       // 0: everything after the prompt at once
  bool needs_raw_chunk = false;  // the read policy may be nothing else
};

struct Protocol {
  std::string name{}, summary{};
  std::string schema{};                   // of its parameters, core/schema.h
  std::vector<std::string> positional{};  // the order in name(a,b,c)
  Bos text_bos = Bos::none;               // default for a text whose tokenizer adds BOS
  /// E_BAD_WINDOW, E_BAD_STRIDE, E_CONTEXT_TOO_LONG, E_TEXT_TOO_SHORT (with the needed count).
  std::function<Cut(const Json& params, const TextFacts& text)> cut{};
};

class Catalogue;
/// "decode", "decode(768,255,1,512)" -> {"ppl": "decode", "P": 768, ...}: only what was given.
/// E_CONFIG, E_UNKNOWN.
Json parse_protocol(std::string_view text, const Catalogue& catalogue);

/// The window as a sample: ids, labels and where the prompt ends.  bos: the token itself, needed
/// for each_window, replace_first and prefixed windows; text_start is done by whoever has the text.
Sample window_sample(const Window& window, std::span<const int32_t> tokens, Bos how, int32_t bos);

/// A window whose prompt is everything: read in one pass unless chunks are asked for.
Window whole_window(Range fed, Range scored);

// What every protocol refuses, in the same words.
void require_context(std::string_view who, int64_t positions, const TextFacts& text);
void require_tokens(std::string_view who, int64_t needed, const TextFacts& text);

}  // namespace kvlab
