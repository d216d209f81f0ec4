// Needles in a haystack: sentences "The secret number of K is V." hidden in a long text, and asked
// for.  RULER-style: its eight tasks by their parameters, with our sentences.
//
// Draws, in this order: for each key the key and its values, all of a sample distinct; the keys
// that are asked for, without replacement, one turn's after another's; the places (haystack.h),
// which the needles fill in the order made; the haystack.

#include <algorithm>

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/synthetic/haystack.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"

namespace kvlab::tasks::niah {
namespace {

struct Preset {
  const char* name;
  HaystackKind haystack;
  ValueKind key_type, value_type;
  int keys, values, queries;
};

using enum HaystackKind;
using enum ValueKind;
constexpr Preset kPresets[] = {
    {"niah_single_1", noise, words, numbers, 1, 1, 1},
    {"niah_single_2", text, words, numbers, 1, 1, 1},
    {"niah_single_3", text, words, uuids, 1, 1, 1},
    {"niah_multikey_1", text, words, numbers, 4, 1, 1},
    {"niah_multikey_2", needles, words, numbers, 1, 1, 1},
    {"niah_multikey_3", needles, uuids, uuids, 1, 1, 1},
    {"niah_multivalue", text, words, numbers, 1, 4, 1},
    {"niah_multiquery", text, words, numbers, 4, 1, 4},
};

constexpr const char* kSchema = R"({
  "keys": {"type": "integer", "minimum": 1, "maximum": 1000,
           "doc": "with values in the text; at least as many as are asked for"},
  "values": {"type": "integer", "minimum": 1, "maximum": 1000, "doc": "of each key"},
  "queries": {"type": "integer", "minimum": 1, "maximum": 1000, "doc": "keys asked for in a turn"},
  "key_type": {"type": "string", "choices": ["words", "numbers", "uuids"], "doc": "what keys are"},
  "value_type": {"type": "string", "choices": ["words", "numbers", "uuids"],
                 "doc": "what values are"},
  "turns": {"type": "integer", "default": 1, "minimum": 1, "maximum": 1000,
            "doc": "questions after each other, each for other keys"},
  "rollback": {"type": "boolean", "default": false,
               "doc": "every turn reads the compressed context alone, not the turns before it"}})";

std::string schema(const Preset& preset, const Json& given) {
  Json own = parse_json(kSchema, preset.name);
  own["keys"]["default"] = preset.keys;
  own["values"]["default"] = preset.values;
  own["queries"]["default"] = preset.queries;
  own["key_type"]["default"] = name_of(preset.key_type);
  own["value_type"]["default"] = name_of(preset.value_type);
  own.update(haystack_schema(preset.haystack, given, true));
  return text_schema(std::move(own), 128);
}

struct Shape {
  size_t keys = 0, values = 0, queries = 0, turns = 0;
  ValueKind key_type{}, value_type{};
  bool rollback = false;
  size_t needles() const { return keys * values; }
};

Shape shape_of(const Json& params) {
  Shape shape{.keys = params.at("keys"),
              .values = params.at("values"),
              .queries = params.at("queries"),
              .turns = params.at("turns"),
              .key_type = value_kind_named(params.at("key_type").get<std::string>()),
              .value_type = value_kind_named(params.at("value_type").get<std::string>()),
              .rollback = params.at("rollback")};
  shape.keys = std::max(shape.keys, shape.queries * shape.turns);
  return shape;
}

/// Keys with their values, `values` to each.
struct Facts {
  std::vector<std::string> keys{}, values{};
};

Facts draw_facts(SplitMix64& random, Distinct& distinct, const Shape& shape) {
  Facts facts;
  for (size_t k = 0; k < shape.keys; ++k) {
    facts.keys.push_back(distinct.value(random, shape.key_type));
    for (size_t v = 0; v < shape.values; ++v)
      facts.values.push_back(distinct.value(random, shape.value_type));
  }
  return facts;
}

TextQuestion::Turn turn_of(const Shape& shape, const Facts& facts, std::span<const int32_t> asked) {
  TextQuestion::Turn turn;
  std::vector<std::string> keys;
  for (const int32_t key : asked) {
    const auto at = static_cast<size_t>(key);
    keys.push_back(facts.keys[at]);
    for (size_t v = 0; v < shape.values; ++v)
      turn.answers.push_back(facts.values[at * shape.values + v]);
  }
  const bool one_value = turn.answers.size() == 1;
  turn.query = needle_question(shape.value_type, keys, one_value);
  turn.answer_prefix = needle_answer_prefix(shape.value_type, keys, one_value);
  return turn;
}

TextQuestion make(const Shape& shape, const Haystack& haystack, SplitMix64& random, int64_t units) {
  Distinct distinct;
  const Facts facts = draw_facts(random, distinct, shape);
  std::vector<std::string> needles;
  for (size_t i = 0; i < shape.needles(); ++i)
    needles.push_back(
        needle_sentence(shape.value_type, facts.keys[i / shape.values], facts.values[i]));
  const auto asked =
      random.sample_range(0, static_cast<int32_t>(shape.keys), shape.queries * shape.turns);
  const Places places = haystack.draw_places(random, units, std::ssize(needles));
  const auto pieces = haystack.pieces(random, units, [&] {
    const std::string key = distinct.value(random, shape.key_type);
    return needle_sentence(shape.value_type, key, distinct.value(random, shape.value_type));
  });
  Hidden hidden = hide(pieces, needles, places.slots(pieces.size()));
  TextQuestion question{.context = std::move(hidden.text) + "\n",
                        .needles = std::move(hidden.spans)};
  for (size_t turn = 0; turn < shape.turns; ++turn) {
    question.turns.push_back(
        turn_of(shape, facts, std::span(asked).subspan(turn * shape.queries, shape.queries)));
    if (turn > 0 && !shape.rollback) question.turns.back().query.insert(0, "\n");
  }
  return question;
}

Work prepare(const Preset& preset, const TaskSetup& setup) {
  const Json& params = *setup.params;
  const Shape shape = shape_of(params);
  const Haystack haystack(setup);
  const bool by_depth = haystack.kind() == text || haystack.kind() == prose;
  KVLAB_REQUIRE(!by_depth || shape.needles() <= kDepths, "E_CONFIG", preset.name, ": ",
                shape.needles(), " needles, the haystack \"", name_of(haystack.kind()), "\" has ",
                kDepths, " depths for them; use \"noise\" or \"needles\", or fewer keys or values");
  return text_work(setup,
                   {.name = preset.name,
                    .lengths = {params.at("length")},
                    .samples_per_length = params.at("samples"),
                    .least_units = haystack.least_units(static_cast<int64_t>(shape.needles())),
                    .make = [=](SplitMix64& random, int64_t,
                                int64_t units) { return make(shape, haystack, random, units); },
                    .turns_restart = shape.rollback,
                    .match = "all",
                    .metrics = {"string_match_all", "string_match_strict", "needle_retention",
                                "retrieval_given_kept", "empty_answers"},
                    .facts = {{"style", "RULER-style"}, {"files", haystack.files()}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  for (const Preset& preset : kPresets) {
    catalogue.add(
        Task{.name = preset.name,
             .summary = "RULER-style: sentences hidden in a long text, and asked for",
             .schema = [&preset](const Json& given) { return schema(preset, given); },
             .prepare = [&preset](const TaskSetup& setup) { return prepare(preset, setup); }});
  }
}

}  // namespace kvlab::tasks::niah
