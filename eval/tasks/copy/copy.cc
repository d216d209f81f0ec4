// Copy: BOS, m distinct random tokens, a separator, then the first of them; the model must go on
// with the other m - 1.
//
//   0 t1 .. tm SEP | t1 -> t2 .. tm        t from 1..V-2, SEP = V - 1

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/random.h"

namespace kvlab::tasks::copy {
namespace {

constexpr const char* kSchema = R"({
  "tokens": {"type": "integer", "default": 16, "minimum": 2, "doc": "m, tokens to be copied"},
  "samples": {"type": "integer", "default": 32, "minimum": 1, "maximum": 1000000,
              "doc": "how many"}})";

Sample make_sample(int32_t vocab, size_t tokens, uint64_t seed, int64_t index) {
  SplitMix64 random = random_stream(seed, "copy", static_cast<uint64_t>(index));
  const auto text = random.sample_range(1, vocab - 1, tokens);
  Sample sample{.id = "copy-" + std::to_string(index)};
  std::vector<int32_t>& context = sample.context.ids;
  context.push_back(0);
  context.insert(context.end(), text.begin(), text.end());
  context.push_back(vocab - 1);
  sample.turns.push_back({.query = {.ids = {text[0]}},
                          .max_new_tokens = static_cast<int64_t>(tokens) - 1,
                          .answer = {text.begin() + 1, text.end()}});
  return sample;
}

Work prepare(const TaskSetup& setup) {
  const int64_t tokens = setup.params->at("tokens"), vocab = setup.shape->vocab_size;
  KVLAB_REQUIRE(tokens <= vocab - 2, "E_CONFIG", "copy: ", tokens,
                " distinct tokens, a vocabulary of ", vocab, " has ", vocab - 2,
                " beside BOS and the separator");
  const int64_t positions = 2 * tokens + 1;
  KVLAB_REQUIRE(setup.shape->max_positions <= 0 || positions <= setup.shape->max_positions,
                "E_CONTEXT_TOO_LONG", "copy: ", positions, " tokens, the model has ",
                setup.shape->max_positions, " positions");
  Work work{.protocol = "decode",
            .metrics = {"token_acc", "exact"},
            .count = setup.params->at("samples"),
            .query_aware = true};
  work.sample = [=, seed = setup.seed](int64_t index) {
    return make_sample(static_cast<int32_t>(vocab), static_cast<size_t>(tokens), seed, index);
  };
  return work;
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "copy",
                     .summary = "random tokens to be repeated",
                     .schema = [](const Json&) { return std::string(kSchema); },
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::copy
