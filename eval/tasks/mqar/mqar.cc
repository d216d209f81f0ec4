// MQAR, multi-query associative recall: key-value pairs, filler, then the keys again, each to be
// answered with its value.  The layout of Zoology's generator, with a BOS in front and the queries
// behind a compression point.
//
//   0 k1 v1 .. kn vn 0 .. 0 | slot slot slot ..
//   <------- context ------> <- (N - context) / 2 slots of two tokens; n of them start with a key
//
// Draws, in this order: n keys from 1..V/2-1, n values from V/2..V-1, n slots, all without
// replacement.

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/random.h"

namespace kvlab::tasks::mqar {
namespace {

constexpr const char* kSchema = R"({
  "pairs": {"type": "integer", "default": 8, "minimum": 1, "doc": "key-value pairs, and queries"},
  "context": {"type": "integer", "default": 0, "minimum": 0, "unit": "token",
              "doc": "tokens before the compression point, padded with filler; 0: 1 + 2 pairs"},
  "length": {"type": "integer", "default": 0, "minimum": 0, "unit": "token",
             "doc": "tokens in all; 0: context + 2 pairs"},
  "power_a": {"type": "number", "default": 1, "minimum": 0.001, "maximum": 1,
              "doc": "slot s is drawn with weight (s+1)^(a-1); 1: all alike"},
  "samples": {"type": "integer", "default": 32, "minimum": 1, "maximum": 1000000,
              "doc": "how many"},
  "protocol": {"type": "string", "default": "decode", "choices": ["decode", "prefill"],
               "doc": "decode: queries read the compressed cache; prefill: everything is prompt"},
  "query_chunk": {"type": "integer", "default": 0, "minimum": 0, "unit": "token",
                  "doc": "query tokens fed at a time; 0: all at once"}})";

struct Layout {
  size_t pairs = 0, context = 0, length = 0, slots = 0;
  int32_t vocab = 0;
  double power_a = 1;
};

Layout layout_of(const Json& params, const ModelShape& shape) {
  const int64_t pairs = params.at("pairs"), vocab = shape.vocab_size;
  const int64_t least = 1 + 2 * pairs;
  const int64_t context = params.at("context") == 0 ? least : params.at("context").get<int64_t>();
  const int64_t length =
      params.at("length") == 0 ? context + 2 * pairs : params.at("length").get<int64_t>();
  const int64_t slots = (length - context) / 2;
  KVLAB_REQUIRE(pairs <= vocab / 2 - 1, "E_MQAR_SHAPE", "mqar: ", pairs,
                " pairs need as many keys, a vocabulary of ", vocab, " has ", vocab / 2 - 1);
  KVLAB_REQUIRE(context >= least, "E_MQAR_SHAPE", "mqar: a context of ", context,
                " tokens is too short for BOS and ", pairs, " pairs (", least, ")");
  KVLAB_REQUIRE(slots >= pairs, "E_MQAR_SHAPE", "mqar: ", length, " tokens leave ",
                std::max<int64_t>(slots, 0), " slots after a context of ", context, " for ", pairs,
                " queries; `length` must be at least ", context + 2 * pairs);
  KVLAB_REQUIRE(shape.max_positions <= 0 || length <= shape.max_positions, "E_CONTEXT_TOO_LONG",
                "mqar: ", length, " tokens, the model has ", shape.max_positions, " positions");
  return {static_cast<size_t>(pairs), static_cast<size_t>(context), static_cast<size_t>(length),
          static_cast<size_t>(slots), static_cast<int32_t>(vocab),  params.at("power_a")};
}

/// Slots without replacement, slot s in proportion to (s+1)^(a-1) among those left.
std::vector<int32_t> power_law_slots(SplitMix64& random, size_t slots, size_t count, double a) {
  std::vector<double> weights(slots);
  for (size_t s = 0; s < slots; ++s) weights[s] = a * std::pow(static_cast<double>(s + 1), a - 1);
  std::vector<int32_t> drawn;
  while (drawn.size() < count) {
    double rest = random.u01() * std::accumulate(weights.begin(), weights.end(), 0.0);
    size_t slot = slots;
    for (size_t s = 0; s < slots && (slot == slots || rest >= 0); ++s) {
      if (weights[s] == 0) continue;
      slot = s;  // the last slot with weight, should rounding leave a rest
      rest -= weights[s];
      if (rest < 0) break;
    }
    weights[slot] = 0;
    drawn.push_back(static_cast<int32_t>(slot));
  }
  return drawn;
}

Sample make_sample(const Layout& layout, bool as_prompt, uint64_t seed, int64_t index) {
  SplitMix64 random = random_stream(seed, "mqar", static_cast<uint64_t>(index));
  const auto keys = random.sample_range(1, layout.vocab / 2, layout.pairs);
  const auto values = random.sample_range(layout.vocab / 2, layout.vocab, layout.pairs);
  const auto slots = layout.power_a == 1
                         ? random.sample_range(0, static_cast<int32_t>(layout.slots), layout.pairs)
                         : power_law_slots(random, layout.slots, layout.pairs, layout.power_a);

  std::vector<int32_t> ids(layout.length, 0), labels(layout.length, kUnscored);
  for (size_t i = 0; i < layout.pairs; ++i) {
    ids[1 + 2 * i] = keys[i];
    ids[2 + 2 * i] = values[i];
    const size_t at = layout.context + 2 * static_cast<size_t>(slots[i]);
    ids[at] = keys[i];
    labels[at] = values[i];
  }
  const auto split = static_cast<std::ptrdiff_t>(as_prompt ? layout.length : layout.context);
  Sample sample{.id = "mqar-" + std::to_string(index)};
  sample.context = {{ids.begin(), ids.begin() + split}, {labels.begin(), labels.begin() + split}};
  if (as_prompt) return sample;
  sample.turns.push_back(
      {.query = {{ids.begin() + split, ids.end()}, {labels.begin() + split, labels.end()}}});
  return sample;
}

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const Layout layout = layout_of(params, *setup.shape);
  const bool as_prompt = params.at("protocol") == "prefill";
  Work work{.protocol = params.at("protocol"),
            .metrics = {"acc", "nll"},
            .count = params.at("samples"),
            .query_chunk = params.at("query_chunk")};
  work.sample = [layout, as_prompt, seed = setup.seed](int64_t index) {
    return make_sample(layout, as_prompt, seed, index);
  };
  return work;
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "mqar",
                     .summary = "key-value pairs to be recalled when their keys come again",
                     .schema = [](const Json&) { return std::string(kSchema); },
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::mqar
