// How long a compressed cache writes what the dense one writes: the text's stretches of P tokens
// are prompts, each goes on greedily.
//
//   x_0 .. x_{P-1} | generated | x_P .. x_{2P-1} | generated | ...     every prompt from an empty
//   cache

#include <algorithm>

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab::tasks::greedy {
namespace {

constexpr const char* kSchema = R"({
  "text": {"type": "string", "default": "", "doc": "UTF-8 file, read by the model's tokenizer"},
  "tokens": {"type": "string", "default": "",
             "doc": "token file: a JSON list of integers, or integers separated by blanks"},
  "P": {"type": "integer", "default": 512, "minimum": 1, "unit": "token", "doc": "of a prompt"},
  "new_tokens": {"type": "integer", "default": 256, "minimum": 1, "maximum": 256, "unit": "token",
                 "doc": "generated after each, at most"},
  "samples": {"type": "integer", "default": 0, "minimum": 0,
              "doc": "the first so many prompts; 0: all"}})";

Work prepare(const TaskSetup& setup) {
  const int64_t prompt = setup.params->at("P"), made = setup.params->at("new_tokens");
  const int64_t limit = setup.shape->max_positions;
  KVLAB_REQUIRE(limit <= 0 || prompt + 1 + made <= limit, "E_CONTEXT_TOO_LONG",
                "greedy: P = ", prompt, " and new_tokens = ", made, " take ", prompt + 1 + made,
                " positions with a BOS token, the model has ", limit);
  auto text = std::make_shared<Text>(read_given(setup, "greedy"));
  const int64_t all = std::ssize(text->tokens) / prompt, asked = setup.params->at("samples");
  KVLAB_REQUIRE(all > 0, "E_TEXT_TOO_SHORT", "greedy: a prompt of ", prompt,
                " tokens, the text has ", text->tokens.size());
  const int32_t begin = text->tokenizer_adds_bos ? setup.begin_token : -1;
  Work work{.protocol = "decode",
            .metrics = {"greedy_prefix"},
            .count = asked == 0 ? all : std::min(all, asked)};
  work.facts = {{"text_tokens", text->tokens.size()}, {"files", text->files}};
  work.tokenizer_sha = text->tokenizer_sha;
  work.sample = [=](int64_t index) {
    Sample sample{.id = "greedy-" + std::to_string(index)};
    if (begin >= 0) sample.context.ids.push_back(begin);
    const auto first = text->tokens.begin() + index * prompt;
    sample.context.ids.insert(sample.context.ids.end(), first, first + prompt);
    sample.turns.push_back({.max_new_tokens = made});
    return sample;
  };
  return work;
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "greedy",
                     .summary = "how long the text goes on as with the dense cache",
                     .schema = [](const Json&) { return std::string(kSchema); },
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::greedy
