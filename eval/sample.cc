#include "eval/sample.h"

namespace kvlab {
namespace {

void append_labels(std::vector<int32_t>& all, const Fed& fed) {
  all.insert(all.end(), fed.labels.begin(), fed.labels.end());
  all.resize(all.size() + fed.ids.size() - fed.labels.size(), kUnscored);
}

Json answers_of(const Turn& turn) {
  return turn.references.empty() ? Json(turn.answer) : Json(turn.references);
}

Json meta_of(const Sample& sample) {
  Json meta = sample.meta, needles = Json::array();
  for (const Range& needle : sample.needles) needles.push_back({needle.first, needle.last});
  if (!needles.empty()) meta["needle_spans"] = needles;
  return meta;
}

/// Where needles begin, in percent of the context's tokens: a number for one, a list for more.
Json depth_of(const Sample& sample) {
  Json depths = Json::array();
  for (const Range& needle : sample.needles)
    depths.push_back(100 * needle.first / std::ssize(sample.context.ids));
  return depths.size() == 1 ? depths[0] : depths;
}

/// What is asked in a turn, in words.
Json words_of(const Turn& turn) {
  return {{"query", turn.text},
          {"answer_prefix", turn.answer_prefix},
          {"answers", answers_of(turn)},
          {"max_new_tokens", turn.max_new_tokens}};
}

Json words_of(const Sample& sample) {
  Json record{{"id", sample.id},
              {"context", sample.text},
              {"match", sample.match},
              {"meta", meta_of(sample)}};
  if (sample.turns.size() == 1) {
    record.update(words_of(sample.turns[0]));
    return record;
  }
  for (const Turn& turn : sample.turns) record["turns"].push_back(words_of(turn));
  record["turns_restart"] = sample.turns_restart;
  return record;
}

}  // namespace

Json describe(const Sample& sample) {
  std::vector<int32_t> query, labels;
  Json answers = Json::array(), stop = Json::array();
  int64_t max_new_tokens = 0;
  bool first_line = false;
  append_labels(labels, sample.context);
  for (const Turn& turn : sample.turns) {
    query.insert(query.end(), turn.query.ids.begin(), turn.query.ids.end());
    append_labels(labels, turn.query);
    if (turn.max_new_tokens > 0) answers.push_back(answers_of(turn));
    for (const std::string& text : turn.stop) stop.push_back(text);
    first_line = first_line || turn.first_line;
    max_new_tokens += turn.max_new_tokens;
  }
  Json line{{"id", sample.id},       {"context_ids", sample.context.ids},
            {"query_ids", query},    {"labels", labels},
            {"answers", answers},    {"max_new_tokens", max_new_tokens},
            {"match", sample.match}, {"turns_restart", sample.turns_restart},
            {"stop", stop},          {"meta", meta_of(sample)}};
  if (first_line) line["first_line"] = true;
  if (!sample.encoder_tokens.empty()) line["encoder_ids"] = sample.encoder_tokens;
  return line;
}

Json record_of(const Sample& sample, std::string_view task, uint64_t seed) {
  Json record = sample.text.empty() ? describe(sample) : words_of(sample);
  record.update({{"task", task}, {"seed", seed}});
  const size_t query = sample.turns.empty() ? 0 : sample.turns[0].query.ids.size();
  Json& meta = record["meta"];
  meta["n_tokens"] = sample.context.ids.size() + query;
  if (!sample.needles.empty() && !meta.contains("depth")) meta["depth"] = depth_of(sample);
  return record;
}

}  // namespace kvlab
