#include <cmath>

#include "eval/catalogue.h"
#include "eval/metrics/choices/choices.h"

namespace kvlab::metrics::choices {
namespace {

using Value = std::optional<double> (*)(const Question&);

template <ChosenBy rule>
std::optional<double> is_right(const Question& question) {
  if (rule == ChosenBy::mutual_information && !question.has_alone) return std::nullopt;
  return chosen(question.choices, rule) == question.gold ? 1 : 0;
}

const Choice& right_one(const Question& question) { return question.choices[question.gold]; }

double exponential_of_minus(double ll) { return std::exp(-ll); }

Metric of_questions(std::string name, std::string unit, Better better, std::string doc,
                    Value value) {
  return Metric{.name = std::move(name),
                .unit = std::move(unit),
                .doc = std::move(doc),
                .better = better,
                .shares = [value](const Outcome& sample, const Outcome*) -> std::vector<Share> {
                  const std::optional<Question> question = question_of(sample);
                  const std::optional<double> got = question ? value(*question) : std::nullopt;
                  if (!got) return {};
                  return {{*got, 1}};
                }};
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  const auto add_share = [&](std::string name, std::string doc, Value value) {
    catalogue.add(of_questions(std::move(name), "fraction", Better::higher, std::move(doc), value));
  };
  add_share("choice_acc", "the right choice has the highest log-likelihood",
            is_right<ChosenBy::ll>);
  add_share("acc_norm", "the same per character", is_right<ChosenBy::per_character>);
  add_share("acc_bytes", "the same per byte of UTF-8", is_right<ChosenBy::per_byte>);
  add_share("acc_tok", "the same per token", is_right<ChosenBy::per_token>);
  add_share("acc_pmi", "the same less the log-likelihood after nothing",
            is_right<ChosenBy::mutual_information>);
  add_share("is_greedy", "every token of the right continuation was the arg max",
            [](const Question& q) -> std::optional<double> { return right_one(q).is_greedy; });
  catalogue.add(of_questions("brier", "", Better::lower, "sum of (p - [right])^2 over the choices",
                             [](const Question& q) -> std::optional<double> { return brier(q); }));
  const Value right_ll = [](const Question& q) -> std::optional<double> { return right_one(q).ll; };
  catalogue.add(of_questions("target_ll", "nat", Better::higher,
                             "log-likelihood of the right continuation, mean", right_ll));
  Metric ppl = of_questions("target_ppl", "", Better::lower, "exp(-target_ll)", right_ll);
  ppl.finish = exponential_of_minus;
  catalogue.add(std::move(ppl));
}

}  // namespace kvlab::metrics::choices
