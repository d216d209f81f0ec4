// Variable tracking: one chain of assignments hidden in a long text, and asked for by its number.
// RULER-style, with our sentences; a solved small example comes first.
//
// Draws, in this order: the chain's names (5 letters) and its number 10000 + below(89999), the
// example's names (3 letters) and another number, the places (haystack.h), the haystack.  Names are
// drawn until distinct.

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/synthetic/haystack.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"

namespace kvlab::tasks::vt {
namespace {

constexpr const char* kSchema = R"({
  "hops": {"type": "integer", "default": 4, "minimum": 1, "maximum": 39,
           "doc": "assignments of one variable to the next"}})";

std::string schema(const Json& given) {
  Json own = parse_json(kSchema, "vt");
  own.update(haystack_schema(HaystackKind::noise, given, false));
  return text_schema(std::move(own), 30);
}

struct Chain {
  std::vector<std::string> names{};
  std::string number{};
  std::vector<std::string> lines() const {
    std::vector<std::string> lines{"Set " + names[0] + " = " + number + "."};
    for (size_t i = 1; i < names.size(); ++i)
      lines.push_back("Set " + names[i] + " = " + names[i - 1] + ".");
    return lines;
  }
  std::string question() const {
    return "Which variables have the value " + number + ", directly or through others?";
  }
  std::string answer_prefix() const { return " The variables with the value " + number + " are"; }
};

Chain draw_chain(SplitMix64& random, Distinct& distinct, size_t names, int letters) {
  Chain chain;
  while (chain.names.size() < names) chain.names.push_back(distinct.letters(random, 'A', letters));
  chain.number = distinct([&] { return std::to_string(10000 + random.below(89999)); });
  return chain;
}

/// Each line of the chain before one unit of noise, then question and answer.
std::string solved(const Chain& chain) {
  const std::vector<std::string> lines = chain.lines(), pieces(lines.size(), noise_unit());
  std::vector<size_t> slots;
  while (slots.size() < lines.size()) slots.push_back(slots.size());
  return hide(pieces, lines, slots).text + "\n" + chain.question() + chain.answer_prefix() + " " +
         joined(chain.names, ", ") + ".\n\n";
}

TextQuestion make(size_t names, const Haystack& haystack, SplitMix64& random, int64_t units) {
  Distinct distinct;
  const Chain chain = draw_chain(random, distinct, names, 5);
  const std::string example = solved(draw_chain(random, distinct, names, 3));
  const Places places = haystack.draw_places(random, units, static_cast<int64_t>(names));
  const auto pieces = haystack.pieces(random, units);
  const Hidden hidden = hide(pieces, chain.lines(), places.slots(pieces.size()));
  TextQuestion question{.context = example + hidden.text + "\n",
                        .turns = {{.query = chain.question(),
                                   .answer_prefix = chain.answer_prefix(),
                                   .answers = chain.names}}};
  const auto offset = static_cast<int64_t>(example.size());
  for (const Range& span : hidden.spans)
    question.needles.push_back({span.first + offset, span.last + offset});
  return question;
}

Work prepare(const TaskSetup& setup) {
  const Json& params = *setup.params;
  const size_t names = params.at("hops").get<size_t>() + 1;
  const Haystack haystack(setup);
  return text_work(setup,
                   {.name = "vt",
                    .lengths = {params.at("length")},
                    .samples_per_length = params.at("samples"),
                    .least_units = haystack.least_units(static_cast<int64_t>(names)),
                    .make = [=](SplitMix64& random, int64_t,
                                int64_t units) { return make(names, haystack, random, units); },
                    .match = "all",
                    .metrics = {"string_match_all", "string_match_strict", "needle_retention",
                                "retrieval_given_kept", "empty_answers"},
                    .facts = {{"style", "RULER-style"}, {"files", haystack.files()}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  catalogue.add(Task{.name = "vt",
                     .summary = "RULER-style: variables to be traced through a long text",
                     .schema = schema,
                     .prepare = prepare});
}

}  // namespace kvlab::tasks::vt
