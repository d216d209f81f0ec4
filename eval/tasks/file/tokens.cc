// Documents that are tokens already: what a record of a sample holds.  Needs no tokenizer.

#include <algorithm>

#include "core/error.h"
#include "eval/tasks/file/task_file.h"
#include "eval/tasks/file/types.h"

namespace kvlab::tasks::file {
namespace {

using Ids = std::vector<int32_t>;

/// The list that a key's template makes; empty where the key is null.
Ids ids(const Source& source, const char* key, const Document& document, int64_t least,
        int64_t vocab) {
  const Json& given = source.file.at(key);
  if (given.is_null()) return {};
  return integers_of(Template(key, given.get<std::string>()).value(document), document, key, least,
                     vocab);
}

Sample make_sample(const Source& source, const TaskSetup& setup, size_t index) {
  const Document& document = source.docs[index];
  const int64_t vocab = setup.shape->vocab_size;
  Sample sample{.id = source.file.at("task").get<std::string>() + "-" + std::to_string(index),
                .encoder_tokens = ids(source, "encoder_ids", document, 0, vocab)};
  Turn turn{.query = {.ids = ids(source, "query_ids", document, 0, vocab)},
            .answer = ids(source, "answer_ids", document, 0, vocab)};
  sample.context.ids = ids(source, "context_ids", document, 0, vocab);
  const Json& max_new = source.file.at("max_new_tokens");
  turn.max_new_tokens = max_new.is_null() ? std::ssize(turn.answer) : max_new.get<int64_t>();
  KVLAB_REQUIRE(turn.max_new_tokens == 0 || !turn.answer.empty(), "E_NO_REFERENCE", document.place,
                ": tokens are generated, but `answer_ids` holds none to compare them with");

  const Ids labels = ids(source, "labels", document, kUnscored, vocab);
  const size_t context = sample.context.ids.size(), query = turn.query.ids.size();
  if (labels.size() == context + query) {
    const auto cut = labels.begin() + static_cast<std::ptrdiff_t>(context);
    sample.context.labels = {labels.begin(), cut};
    turn.query.labels = {cut, labels.end()};
  } else {
    KVLAB_REQUIRE(labels.empty() || labels.size() == query, "E_FORMAT", document.place, ": ",
                  labels.size(), " labels for a query of ", query, " tokens and a context of ",
                  context, "; give one for each token of the query, or of both");
    turn.query.labels = labels;
  }
  const bool scores = std::ranges::any_of(labels, [](int32_t label) { return label != kUnscored; });
  KVLAB_REQUIRE(scores || turn.max_new_tokens > 0, "E_NO_REFERENCE", document.place,
                ": no label is scored and nothing is generated");
  require_positions(static_cast<int64_t>(context + query) + turn.max_new_tokens, document, setup);
  sample.turns.push_back(std::move(turn));
  return sample;
}

}  // namespace

Made make_tokens(const Source& source, const TaskSetup& setup) {
  Made made{.work = {.protocol = "decode"}};
  for (size_t i = 0; i < source.docs.size(); ++i)
    made.samples.push_back(make_sample(source, setup, i));
  return made;
}

}  // namespace kvlab::tasks::file
