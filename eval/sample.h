#pragma once
// One question to a model, as tokens: what every task comes down to before a cache sees it.

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

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
  int64_t max_new_tokens = 0;     // greedy; 0: nothing is generated
  std::vector<int32_t> answer{};  // what should be generated
};

/// Phases: the context is prefilled and compressed; each turn's query is fed through the compressed
/// cache; then the turn's tokens are generated.  A turn sees what earlier turns left in the cache,
/// or, when turns_restart, the context alone.
struct Sample {
  std::string id{};
  Fed context{};
  std::vector<Turn> turns{};
  bool turns_restart = false;
  Json meta = Json::object();
};

/// One line of a sample file: {"id", "task", "seed", "context_ids", "query_ids", "labels", ...};
/// query and labels of all turns are joined, as the labels are of context and queries.
Json describe(const Sample& sample);

}  // namespace kvlab
