// One needle at every depth of every length: the samples of a heat map.  Each sample's "length" and
// "depth" (percent of the haystack before the needle) stand with its result.
//
// Draws, in this order: the key, the value, the haystack.

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/synthetic/haystack.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"

namespace kvlab::tasks::needle_grid {
namespace {

constexpr const char* kSchema = R"({
  "lengths": {"type": "array", "items": "integer", "default": [1024, 2048, 4096], "minimum": 1,
              "unit": "token", "doc": "of context, question and answer together, at most"},
  "depths": {"type": "array", "items": "integer", "minimum": 0, "maximum": 100, "unit": "%",
             "default": [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
             "doc": "of the haystack before the needle"},
  "repetitions": {"type": "integer", "default": 1, "minimum": 1, "maximum": 10000,
                  "doc": "samples of each length and depth"},
  "key_type": {"type": "string", "default": "words", "choices": ["words", "numbers", "uuids"],
               "doc": "what the key is"},
  "value_type": {"type": "string", "default": "numbers", "choices": ["words", "numbers", "uuids"],
                 "doc": "what the value is"}})";

std::string schema(const Json& given) {
  Json own = parse_json(kSchema, "needle_grid");
  own.update(haystack_schema(HaystackKind::noise, given, false));
  own.update(answer_schema(128));
  return own.dump();
}

TextQuestion make(ValueKind key_type, ValueKind value_type, int32_t depth, const Haystack& haystack,
                  SplitMix64& random, int64_t units) {
  Distinct distinct;
  const std::vector<std::string> key{distinct.value(random, key_type)};
  const std::string value = distinct.value(random, value_type);
  const std::vector<std::string> needle{needle_sentence(value_type, key[0], value)};
  const auto pieces = haystack.pieces(random, units);
  const Places place{.in_percent = true, .at = {depth}};
  Hidden hidden = hide(pieces, needle, place.slots(pieces.size()));
  return {.context = std::move(hidden.text) + "\n",
          .turns = {{.query = needle_question(value_type, key, true),
                     .answer_prefix = needle_answer_prefix(value_type, key, true),
                     .answers = {value}}},
          .needles = std::move(hidden.spans),
          .meta = {{"depth", depth}}};
}

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const std::vector<int64_t> lengths = params.at("lengths");
  const std::vector<int32_t> depths = params.at("depths");
  KVLAB_REQUIRE(!lengths.empty() && !depths.empty(), "E_CONFIG",
                "needle_grid: `lengths` and `depths` need at least one number each");
  const int64_t repetitions = params.at("repetitions");
  const int64_t per_length = std::ssize(depths) * repetitions;
  const Haystack haystack(setup);
  const auto key_type = value_kind_named(params.at("key_type").get<std::string>());
  const auto value_type = value_kind_named(params.at("value_type").get<std::string>());
  return text_work(
      setup, {.name = "needle_grid",
              .lengths = lengths,
              .samples_per_length = per_length,
              .least_units = 1,
              .make =
                  [=](SplitMix64& random, int64_t index, int64_t units) {
                    const auto depth = static_cast<size_t>(index % per_length / repetitions);
                    TextQuestion question =
                        make(key_type, value_type, depths[depth], haystack, random, units);
                    question.meta["length"] = lengths[static_cast<size_t>(index / per_length)];
                    return question;
                  },
              .match = "exact",
              .metrics = {"string_match_strict", "string_match_all", "needle_retention",
                          "retrieval_given_kept", "empty_answers"},
              .facts = {{"files", haystack.files()}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "needle_grid",
                     .summary = "one hidden sentence at every depth of texts of every length",
                     .schema = schema,
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::needle_grid
