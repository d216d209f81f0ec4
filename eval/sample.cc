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
  Json answers = Json::array(), needles = Json::array(), stop = Json::array();
  int64_t max_new_tokens = 0;
  bool first_line = false;
  append_labels(labels, sample.context);
  for (const Turn& turn : sample.turns) {
    query.insert(query.end(), turn.query.ids.begin(), turn.query.ids.end());
    append_labels(labels, turn.query);
    if (turn.max_new_tokens > 0) {
      answers.push_back(turn.references.empty() ? Json(turn.answer) : Json(turn.references));
    }
    for (const std::string& text : turn.stop) stop.push_back(text);
    first_line = first_line || turn.first_line;
    max_new_tokens += turn.max_new_tokens;
  }
  for (const Range& needle : sample.needles) needles.push_back({needle.first, needle.last});
  Json meta = sample.meta;
  if (!needles.empty()) meta["needle_spans"] = needles;
  Json line{{"id", sample.id},       {"context_ids", sample.context.ids},
            {"query_ids", query},    {"labels", labels},
            {"answers", answers},    {"max_new_tokens", max_new_tokens},
            {"match", sample.match}, {"turns_restart", sample.turns_restart},
            {"stop", stop},          {"meta", meta}};
  if (first_line) line["first_line"] = true;
  return line;
}

}  // namespace kvlab
