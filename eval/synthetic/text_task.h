#pragma once
// From a question in words to a task: length fitted in the model's own tokens, needles found among
// them, everything else as for any task.

#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/types.h"
#include "eval/random.h"
#include "eval/task.h"

namespace kvlab {

/// What a generator makes, before any tokenizer.
struct TextQuestion {
  struct Turn {
    std::string query{}, answer_prefix{};
    std::vector<std::string> answers{};
  };
  std::string context{};
  std::vector<Turn> turns{};
  std::vector<Range> needles{};  // bytes of the context
  Json meta = Json::object();    // of the sample, beside what is found from the tokens
};

struct TextTask {
  std::string name{};  // of the task: its random stream, its samples' ids
  /// Sample i has lengths[i / samples_per_length] tokens at most, answers included.
  std::vector<int64_t> lengths{};
  int64_t samples_per_length = 0;
  int64_t least_units = 0;
  /// Sample `index` with so many units of haystack.  What it draws before the haystack does not
  /// depend on `units`, so that a sample asks the same at every length.
  std::function<TextQuestion(SplitMix64& random, int64_t index, int64_t units)> make{};
  bool turns_restart = false;
  std::string match{};                 // all, any, exact, first_int
  std::vector<std::string> metrics{};  // the headline first
  Json facts = Json::object();
};

/// A task's own parameters with those of every text task: length, samples, max_new_tokens,
/// query_chunk, stop.
std::string text_schema(Json own, int64_t max_new_tokens);
/// The same for tasks that choose their lengths themselves.
Json answer_schema(int64_t max_new_tokens);

/// Length fitting.  A sample's tokens are its context's (with those that the model's tokenizer adds
/// by itself), and for each turn those of query and answer prefix (read together, nothing added)
/// and max_new_tokens; where turns restart from the context, of the longest turn alone.  The first
/// sample of a length takes the most units that fit, by doubling and bisection; every other one
/// starts there and goes down one unit at a time.  E_HAYSTACK_TOO_SHORT: least_units do not fit.
/// E_CONTEXT_TOO_LONG: a length beyond the model's positions.  E_NO_TOKENIZER.
Work text_work(const TaskSetup& setup, TextTask task);

}  // namespace kvlab
