#pragma once
// One question to a model, as tokens: what every task comes down to before a cache sees it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/types.h"

namespace kvlab {

inline constexpr int32_t kUnscored = -1;  // a label that nobody reads

/// Tokens that are fed.  labels[i] is the token that should follow ids[i], or kUnscored; empty:
/// none is scored.  recall, when not empty, marks labels that repeat a bigram of the distant
/// context.
struct Fed {
  std::vector<int32_t> ids{}, labels{};
  std::vector<uint8_t> recall{};
};

/// What follows the context: tokens fed through the compressed cache, then tokens generated.
struct Turn {
  Fed query{};
  int64_t max_new_tokens = 0;             // greedy; 0: nothing is generated
  std::vector<int32_t> answer{};          // what should be generated, for tasks judged by tokens
  std::vector<std::string> references{};  // the same for tasks judged by text, in any metric's way
  /// The text ends before the first of these; they are not looked for in the first token.
  std::vector<std::string> stop{};
  bool first_line = false;    // the answer is the first line of the text that is not empty
  bool from_nothing = false;  // with turns_restart: fed to an empty cache instead of the context's
  std::string text{}, answer_prefix{};  // the query in words, for readers; tokens are what is fed
};

/// Phases: the encoder reads its tokens, where there is one; the context is prefilled and
/// compressed; each turn's query is fed through the compressed cache; then the turn's tokens are
/// generated.  A turn sees what earlier turns left in the cache, their generated tokens included,
/// or, when turns_restart, the context alone.
struct Sample {
  std::string id{};
  std::vector<int32_t> encoder_tokens{};  // of models with an encoder: it reads them first
  Fed context{};
  std::vector<Turn> turns{};
  bool turns_restart = false;
  std::vector<Range> needles{};  // tokens of the context that answers are made from
  std::string match = "tokens";  // how answers are compared, for readers of sample files
  Json meta = Json::object();    // of the sample: reported with its result
  std::string text{};            // the context in words, of tasks made of text
};

/// What is fed and asked: {"id", "context_ids", "query_ids", "labels", ...}; query and labels of
/// all turns are joined, as the labels are of context and queries.  "encoder_ids" where there are
/// any.
Json describe(const Sample& sample);

/// One line of a sample file: what describe() says and {"task", "seed"}; of text the words instead
/// of the tokens, {"context", "query", "answer_prefix", "answers"}, and where there are several
/// turns a list of them under "turns".  "meta" adds needle_spans, depth (where needles begin, in
/// percent of the context) and n_tokens, which are the context's and the first query's with its
/// answer prefix.
Json record_of(const Sample& sample, std::string_view task, uint64_t seed);

}  // namespace kvlab
