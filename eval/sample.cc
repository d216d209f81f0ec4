#include "eval/sample.h"

namespace kvlab {
namespace {

void append_labels(std::vector<int32_t>& all, const Fed& fed) {
  all.insert(all.end(), fed.labels.begin(), fed.labels.end());
  all.resize(all.size() + fed.ids.size() - fed.labels.size(), kUnscored);
}

}  // namespace

Json describe(const Sample& sample) {
  std::vector<int32_t> query, labels;
  std::vector<std::vector<int32_t>> answers;
  int64_t max_new_tokens = 0;
  append_labels(labels, sample.context);
  for (const Turn& turn : sample.turns) {
    query.insert(query.end(), turn.query.ids.begin(), turn.query.ids.end());
    append_labels(labels, turn.query);
    if (turn.max_new_tokens > 0) answers.push_back(turn.answer);
    max_new_tokens += turn.max_new_tokens;
  }
  return {{"id", sample.id},    {"context_ids", sample.context.ids},
          {"query_ids", query}, {"labels", labels},
          {"answers", answers}, {"max_new_tokens", max_new_tokens},
          {"match", "tokens"},  {"turns_restart", sample.turns_restart},
          {"meta", sample.meta}};
}

}  // namespace kvlab
