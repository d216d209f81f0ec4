#include "eval/synthetic/text_task.h"

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "eval/synthetic/hidden.h"

namespace kvlab {
namespace {

constexpr const char* kAnswerSchema = R"({
  "query_chunk": {"type": "integer", "default": 0, "minimum": 0, "unit": "token",
                  "doc": "query tokens fed at a time; 0: all at once"},
  "stop": {"type": "array", "items": "string", "default": [],
           "doc": "an answer ends before the first of these; none: it ends at max_new_tokens"}})";
constexpr const char* kLengthSchema = R"({
  "length": {"type": "integer", "default": 4096, "minimum": 1, "unit": "token",
             "doc": "of context, question and answer together, at most"},
  "samples": {"type": "integer", "default": 100, "minimum": 1, "maximum": 1000000,
              "doc": "how many"}})";

/// A sample of so many tokens, of which its needles are some.
struct Tokenised {
  Sample sample{};
  int64_t tokens = 0;
};

class Fitter {
 public:
  Fitter(TextTask task, const TaskSetup& setup)
      : task_(std::move(task)),
        tokenizer_(setup.tokenizer()),
        seed_(setup.seed),
        max_new_tokens_(setup.params->at("max_new_tokens")),
        stop_(setup.params->at("stop")),
        units_(task_.lengths.size() * static_cast<size_t>(task_.samples_per_length), kUnknown) {}

  Sample sample(int64_t index) {
    const std::lock_guard lock(mutex_);
    int64_t& units = units_[static_cast<size_t>(index)];
    if (units != kUnknown) return tokenised(index, units).sample;
    Tokenised fitted = fit(index, units);
    return std::move(fitted.sample);
  }

  const TextTask& task() const { return task_; }
  const std::shared_ptr<Tokenizer>& tokenizer() const { return tokenizer_; }

 private:
  static constexpr int64_t kUnknown = -1;
  static constexpr int64_t kMostUnitsPerToken = 64;  // a unit is a word at least

  int64_t length_of(int64_t index) const {
    return task_.lengths[static_cast<size_t>(index / task_.samples_per_length)];
  }

  Tokenised fit(int64_t index, int64_t& units) {
    const int64_t first = index / task_.samples_per_length * task_.samples_per_length;
    int64_t& most = units_[static_cast<size_t>(first)];
    if (most == kUnknown) most = most_units(first);
    for (units = most; units >= task_.least_units; --units) {
      Tokenised made = tokenised(index, units);
      if (made.tokens <= length_of(index)) return made;
    }
    units = kUnknown;
    refuse(index);
  }

  /// Doubling, then bisection between what fits and what does not.
  int64_t most_units(int64_t index) {
    const auto fits = [&](int64_t units) {
      return tokenised(index, units).tokens <= length_of(index);
    };
    int64_t low = task_.least_units;
    if (!fits(low)) refuse(index);
    int64_t high = std::max<int64_t>(1, 2 * low);
    for (; fits(high); high *= 2) {
      low = high;
      KVLAB_REQUIRE(high < kMostUnitsPerToken * length_of(index), "E_NO_TOKENIZER", task_.name,
                    ": ", high, " units of haystack take fewer than ", length_of(index),
                    " tokens: the model's tokenizer makes no tokens of them");
    }
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (fits(middle) ? low : high) = middle;
    }
    return low;
  }

  [[noreturn]] void refuse(int64_t index) {
    fail("E_HAYSTACK_TOO_SHORT", task_.name, ": `length` is ", length_of(index), ", but sample ",
         index, " takes ", tokenised(index, task_.least_units).tokens,
         " tokens at its shortest (units of haystack: ", task_.least_units,
         "; to be generated: ", max_new_tokens_, "); raise `length` or lower `max_new_tokens`");
  }

  Tokenised tokenised(int64_t index, int64_t units) {
    SplitMix64 random = random_stream(seed_, task_.name, static_cast<uint64_t>(index));
    TextQuestion question = task_.make(random, index, units);
    TokenSpans context = tokenizer_->encode_spans(question.context, Tokenizer::Special::as_model);
    Tokenised made;
    made.tokens = static_cast<int64_t>(context.tokens.size());
    Sample& sample = made.sample;
    sample = {.id = task_.name + "-" + std::to_string(index),
              .turns_restart = task_.turns_restart,
              .needles = token_ranges(context.bytes, question.needles),
              .match = task_.match,
              .meta = std::move(question.meta),
              .text = std::move(question.context)};
    sample.context.ids = std::move(context.tokens);
    int64_t turns = 0;
    for (TextQuestion::Turn& turn : question.turns) {
      sample.turns.push_back(fed(std::move(turn)));
      const int64_t tokens =
          static_cast<int64_t>(sample.turns.back().query.ids.size()) + max_new_tokens_;
      turns = task_.turns_restart ? std::max(turns, tokens) : turns + tokens;
    }
    made.tokens += turns;
    return made;
  }

  Turn fed(TextQuestion::Turn turn) {
    return {.query = {.ids = tokenizer_->encode(turn.query + turn.answer_prefix,
                                                Tokenizer::Special::none)},
            .max_new_tokens = max_new_tokens_,
            .references = std::move(turn.answers),
            .stop = stop_,
            .text = std::move(turn.query),
            .answer_prefix = std::move(turn.answer_prefix)};
  }

  TextTask task_;
  std::shared_ptr<Tokenizer> tokenizer_;
  uint64_t seed_;
  int64_t max_new_tokens_;
  std::vector<std::string> stop_;
  std::mutex mutex_{};
  std::vector<int64_t> units_;  // that fit each sample, once they are known
};

}  // namespace

Json answer_schema(int64_t max_new_tokens) {
  Json schema = parse_json(kAnswerSchema, "text task");
  schema["max_new_tokens"] = {{"type", "integer"},
                              {"default", max_new_tokens},
                              {"minimum", 1},
                              {"unit", "token"},
                              {"doc", "of an answer, at most"}};
  return schema;
}

std::string text_schema(Json own, int64_t max_new_tokens) {
  own.update(parse_json(kLengthSchema, "text task"));
  own.update(answer_schema(max_new_tokens));
  return own.dump();
}

Work text_work(const TaskSetup& setup, TextTask task) {
  const int64_t positions = setup.shape->max_positions;
  for (const int64_t length : task.lengths)
    KVLAB_REQUIRE(positions <= 0 || length <= positions, "E_CONTEXT_TOO_LONG", task.name,
                  ": a length of ", length, " tokens, the model has ", positions, " positions");
  auto fitter = std::make_shared<Fitter>(std::move(task), setup);
  const TextTask& fitted = fitter->task();
  Work work{.protocol = "decode",
            .metrics = fitted.metrics,
            .count = static_cast<int64_t>(fitted.lengths.size()) * fitted.samples_per_length,
            .query_chunk = setup.params->at("query_chunk"),
            .query_aware = true,
            .facts = fitted.facts,
            .tokenizer_sha = fitter->tokenizer()->sha256(),
            .tokenizer = fitter->tokenizer()};
  work.facts["templates"] = "kvlab's own";
  work.sample = [fitter](int64_t index) { return fitter->sample(index); };
  return work;
}

}  // namespace kvlab
