#include "eval/feeding.h"

#include <algorithm>

namespace kvlab {
namespace {

void append(std::vector<int32_t>& all, std::span<const int32_t> more) {
  all.insert(all.end(), more.begin(), more.end());
}

/// The last `count` tokens of `fed`, taken away from it.
Fed split_off(Fed& fed, size_t count) {
  const auto cut = [&](auto& all) {
    auto tail = std::vector(all.end() - static_cast<std::ptrdiff_t>(count), all.end());
    all.resize(all.size() - count);
    return tail;
  };
  return {cut(fed.ids), cut(fed.labels), cut(fed.recall)};
}

bool any_scored(const Fed& fed, int64_t from) {
  for (size_t i = static_cast<size_t>(from); i < fed.labels.size(); ++i) {
    if (fed.labels[i] != kUnscored) return true;
  }
  return false;
}

}  // namespace

Fed with_labels(Fed fed) {
  fed.labels.resize(fed.ids.size(), kUnscored);
  fed.recall.resize(fed.ids.size(), 0);
  return fed;
}

void join(Fed& all, const Fed& more) {
  const Fed complete = with_labels(more);
  append(all.ids, complete.ids);
  append(all.labels, complete.labels);
  all.recall.insert(all.recall.end(), complete.recall.begin(), complete.recall.end());
}

Sample as_fed(const Sample& sample, const Feeding& feeding) {
  Sample fed = sample;
  fed.context = with_labels(fed.context);
  for (Turn& turn : fed.turns) turn.query = with_labels(turn.query);
  if (fed.turns.empty()) return fed;
  Turn& first = fed.turns.front();
  if (feeding.query_aware) {
    join(fed.context, first.query);
    first.query = {};
  }
  if (first.query.ids.empty() && first.max_new_tokens > 0 && !fed.context.ids.empty()) {
    first.query = split_off(fed.context, 1);
  }
  return fed;
}

Sample in_one_pass(const Sample& sample) {
  Sample joined{.id = sample.id,
                .encoder_tokens = sample.encoder_tokens,
                .context = with_labels(sample.context),
                .meta = sample.meta};
  for (const Turn& turn : sample.turns) join(joined.context, turn.query);
  return joined;
}

bool reads_compressed(const Sample& sample, const Feeding& feeding) {
  const Sample fed = as_fed(sample, feeding);
  const auto context = static_cast<int64_t>(fed.context.ids.size());
  const auto second_pass = [&](int64_t tokens, int64_t chunk) {
    if (feeding.read != ReadPolicy::raw_chunk) return int64_t{1};
    return chunk == 0 ? tokens : std::min(chunk, tokens);
  };
  if (any_scored(fed.context, second_pass(context, feeding.prefill_chunk))) return true;
  for (const Turn& turn : fed.turns) {
    const auto query = static_cast<int64_t>(turn.query.ids.size());
    const int64_t from = context > 0 ? 0 : second_pass(query, feeding.query_chunk);
    if (any_scored(turn.query, from) || (turn.max_new_tokens > 0 && context > 0)) return true;
  }
  return false;
}

}  // namespace kvlab
