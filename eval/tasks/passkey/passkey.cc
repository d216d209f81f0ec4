// Passkey: a number of some digits hidden in filler; the first integer of the answer must be it.
//
// Draws, in this order: the digits (the first from 1 on), the place (haystack.h) unless `depth`
// says it, the haystack.

#include "eval/catalogue.h"
#include "eval/synthetic/haystack.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"

namespace kvlab::tasks::passkey {
namespace {

constexpr const char* kSchema = R"({
  "digits": {"type": "integer", "default": 5, "minimum": 1, "maximum": 1000, "doc": "of the key"},
  "depth": {"type": ["integer", "null"], "default": null, "minimum": 0, "maximum": 100,
            "unit": "%", "doc": "of the haystack before the key; null: drawn"}})";
constexpr const char* kOwner = "the gate";

std::string schema(const Json& given) {
  Json own = parse_json(kSchema, "passkey");
  own.update(haystack_schema(HaystackKind::noise, given, false));
  return text_schema(std::move(own), 32);
}

std::string draw_key(SplitMix64& random, int64_t digits) {
  std::string key(1, static_cast<char>('1' + random.below(9)));
  while (std::ssize(key) < digits) key += static_cast<char>('0' + random.below(10));
  return key;
}

TextQuestion make(int64_t digits, const Json& depth, const Haystack& haystack, SplitMix64& random,
                  int64_t units) {
  const std::string key = draw_key(random, digits);
  const Places place = depth.is_null() ? haystack.draw_places(random, units, 1)
                                       : Places{.in_percent = true, .at = {depth.get<int32_t>()}};
  const auto pieces = haystack.pieces(random, units);
  const std::vector<std::string> owner{kOwner},
      needle{needle_sentence(ValueKind::numbers, kOwner, key)};
  Hidden hidden = hide(pieces, needle, place.slots(pieces.size()));
  return {.context = std::move(hidden.text) + "\n",
          .turns = {{.query = needle_question(ValueKind::numbers, owner, true),
                     .answer_prefix = needle_answer_prefix(ValueKind::numbers, owner, true),
                     .answers = {key}}},
          .needles = std::move(hidden.spans)};
}

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const Haystack haystack(setup);
  return text_work(
      setup, {.name = "passkey",
              .lengths = {params.at("length")},
              .samples_per_length = params.at("samples"),
              .least_units = 1,
              .make = [=, digits = params.at("digits").get<int64_t>(), depth = params.at("depth")](
                          SplitMix64& random, int64_t,
                          int64_t units) { return make(digits, depth, haystack, random, units); },
              .match = "first_int",
              .metrics = {"first_int", "needle_retention", "retrieval_given_kept", "empty_answers"},
              .facts = {{"files", haystack.files()}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "passkey",
                     .summary = "a number hidden in filler",
                     .schema = schema,
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::passkey
