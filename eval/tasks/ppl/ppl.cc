// Perplexity of a text under one of the protocols of eval/protocols/.

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/schema.h"
#include "eval/catalogue.h"

namespace kvlab::tasks::ppl {
namespace {

constexpr const char* kSchema = R"({
  "protocol": {"type": "string", "default": "decode", "doc": "how the text is cut and fed"},
  "text": {"type": "string", "default": "", "doc": "UTF-8 file, read by the model's tokenizer"},
  "tokens": {"type": "string", "default": "",
             "doc": "token file: a JSON list of integers, or integers separated by blanks"},
  "bos": {"type": "string", "default": "auto",
          "choices": ["auto", "none", "text_start", "each_window", "replace_first"],
          "doc": "auto: as the protocol says where the tokenizer adds BOS, none otherwise"},
  "fidelity": {"type": "boolean", "default": true,
               "doc": "feed everything once more beside a dense cache and compare: KL and the like"},
  "windows": {"type": "integer", "default": 0, "minimum": 0, "doc": "the first so many; 0: all"}})";

std::string schema(const Json& given) {
  const auto name = given.find("protocol");
  const bool is_name = name != given.end() && name->is_string();
  const Protocol& protocol = catalogue().protocol(is_name ? name->get<std::string>() : "decode");
  Json merged = parse_json(kSchema, "ppl");
  merged.update(parse_json(protocol.schema, protocol.name));
  return merged.dump();
}

/// Only a text says through its tokenizer whether a BOS belongs in front; a token file already
/// holds every token that is to be fed.
Bos bos_of(const Json& params, const Protocol& protocol, const Text& text, int32_t begin_token) {
  const std::string asked = params.at("bos");
  const Bos bos = asked != "auto"           ? bos_named(asked)
                  : text.tokenizer_adds_bos ? protocol.text_bos
                                            : Bos::none;
  KVLAB_REQUIRE(bos == Bos::none || begin_token >= 0, "E_CONFIG", "ppl: bos = ", name_of(bos),
                ", but the model names no BOS token; use \"bos\": \"none\"");
  return bos;
}

/// Tags the labels whose bigram stood in the prompt, but not within the last 64 tokens: what a
/// cache that forgets gets wrong first.
void tag_recall(Sample& sample) {
  constexpr int64_t kNear = 64;
  std::vector<int32_t> ids = sample.context.ids;
  const auto prompt = static_cast<int64_t>(ids.size());
  const auto key = [](int32_t a, int32_t b) {
    return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
  };
  std::unordered_map<uint64_t, std::pair<int64_t, int64_t>> seen;  // first and last position
  const auto note = [&](int64_t at) {
    if (at < 1) return;
    const auto [entry, fresh] = seen.try_emplace(
        key(ids[static_cast<size_t>(at) - 1], ids[static_cast<size_t>(at)]), at, at);
    if (!fresh) entry->second.second = at;
  };
  for (int64_t at = 1; at < prompt; ++at) note(at);
  for (Turn& turn : sample.turns) {
    turn.query.recall.assign(turn.query.ids.size(), 0);
    for (size_t i = 0; i < turn.query.ids.size(); ++i) {
      ids.push_back(turn.query.ids[i]);
      note(static_cast<int64_t>(ids.size()) - 1);
      const auto found = seen.find(key(turn.query.ids[i], turn.query.labels[i]));
      if (found == seen.end()) continue;
      const auto label_at = static_cast<int64_t>(ids.size());
      turn.query.recall[i] =
          found->second.first < prompt && found->second.second < label_at - kNear;
    }
  }
}

constexpr const char* kMetrics[] = {"ppl",
                                    "nll",
                                    "delta_nll",
                                    "ppl_ratio",
                                    "noise_floor",
                                    "delta_nll_recall",
                                    "delta_nll_other",
                                    "delta_nll_q1",
                                    "delta_nll_q2",
                                    "delta_nll_q3",
                                    "delta_nll_q4",
                                    "delta_nll_d1_8",
                                    "delta_nll_d9_32",
                                    "delta_nll_d33_128",
                                    "delta_nll_d129_512",
                                    "delta_nll_d513_2048",
                                    "delta_nll_d2049",
                                    "se_iid"};

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const Protocol& protocol = catalogue().protocol(params.at("protocol").get<std::string>());
  auto text = std::make_shared<Text>(read_given(setup, "ppl"));
  const Bos bos = bos_of(params, protocol, *text, setup.begin_token);
  if (bos == Bos::text_start) text->tokens.insert(text->tokens.begin(), setup.begin_token);
  auto cut = std::make_shared<Cut>(protocol.cut(
      params, {static_cast<int64_t>(text->tokens.size()), setup.shape->max_positions}));
  const auto all = static_cast<int64_t>(cut->windows.size());
  const bool prefixed = std::any_of(cut->windows.begin(), cut->windows.end(),
                                    [](const Window& window) { return window.prefixed; });
  KVLAB_REQUIRE(!prefixed || setup.begin_token >= 0, "E_CONFIG", "ppl: ", protocol.name,
                " starts with a BOS token, but the model names none; use another protocol");

  Work work{
      .protocol = cut->label,
      .metric_suffix = cut->metric_suffix,
      .metrics = {std::begin(kMetrics), std::end(kMetrics)},
      .count = params.at("windows") == 0 ? all : std::min(all, params.at("windows").get<int64_t>()),
      .prefill_chunk = cut->prefill_chunk,
      .query_chunk = cut->score_chunk,
      .needs_raw_chunk = cut->needs_raw_chunk,
      .noise_floor = true,
      .fidelity = params.at("fidelity")};
  work.facts = {{"bos", name_of(bos)},
                {"text_tokens", text->tokens.size()},
                {"windows", work.count},
                {"files", text->files}};
  work.tokenizer_sha = text->tokenizer_sha;
  work.sample = [text, cut, bos, begin = setup.begin_token](int64_t index) {
    Sample sample =
        window_sample(cut->windows[static_cast<size_t>(index)], text->tokens, bos, begin);
    sample.id = "window-" + std::to_string(index);
    tag_recall(sample);
    return sample;
  };
  return work;
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "ppl",
                     .summary = "perplexity of a text",
                     .shorthand = "ppl",
                     .shorthand_parameter = "protocol",
                     .schema = schema,
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::ppl
