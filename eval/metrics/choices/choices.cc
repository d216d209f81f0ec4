#include "eval/metrics/choices/choices.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace kvlab {
namespace {

/// Takes the tokens of one turn after another off the outcome's lists.
class Turns {
 public:
  explicit Turns(const Outcome& outcome) : outcome_(outcome) {
    at_ = outcome.nll.size();
    for (const int64_t scored : outcome.turn_scored) at_ -= static_cast<size_t>(scored);
  }

  struct Turn {
    double ll = 0;
    int64_t tokens = 0;
    bool is_greedy = true;
  };
  Turn next() {
    Turn turn{.tokens = outcome_.turn_scored[turn_++]};
    for (int64_t i = 0; i < turn.tokens; ++i, ++at_) {
      turn.ll -= outcome_.nll[at_];
      turn.is_greedy = turn.is_greedy && outcome_.predicted[at_] == outcome_.labels[at_];
    }
    return turn;
  }

 private:
  const Outcome& outcome_;
  size_t at_ = 0, turn_ = 0;
};

double value(const Choice& choice, ChosenBy rule) {
  switch (rule) {
    case ChosenBy::ll:
      return choice.ll;
    case ChosenBy::per_character:
      return choice.ll / static_cast<double>(choice.characters);
    case ChosenBy::per_byte:
      return choice.ll / static_cast<double>(choice.bytes);
    case ChosenBy::per_token:
      return choice.ll / static_cast<double>(choice.tokens);
    case ChosenBy::mutual_information:
      break;
  }
  return choice.ll - choice.ll_alone;
}

}  // namespace

std::optional<Question> question_of(const Outcome& outcome) {
  if (!outcome.meta.contains("choices")) return std::nullopt;
  const Json& choices = outcome.meta.at("choices");
  Question question{.gold = outcome.meta.at("gold").get<size_t>(),
                    .has_alone = outcome.turn_scored.size() == 2 * choices.size()};
  KVLAB_CHECK(question.has_alone || outcome.turn_scored.size() == choices.size());
  KVLAB_CHECK(question.gold < choices.size());
  Turns turns(outcome);
  for (const Json& choice : choices) {
    const Turns::Turn turn = turns.next();
    question.choices.push_back({.ll = turn.ll,
                                .characters = choice.at("characters"),
                                .bytes = choice.at("bytes"),
                                .tokens = turn.tokens,
                                .is_greedy = turn.is_greedy});
  }
  if (question.has_alone)
    for (Choice& choice : question.choices) choice.ll_alone = turns.next().ll;
  return question;
}

size_t chosen(const std::vector<Choice>& choices, ChosenBy rule) {
  const auto best = std::ranges::max_element(choices, [rule](const Choice& a, const Choice& b) {
    return value(a, rule) < value(b, rule);
  });
  return static_cast<size_t>(best - choices.begin());
}

double brier(const Question& question) {
  const double most = question.choices[chosen(question.choices, ChosenBy::ll)].ll;
  double sum = 0;
  for (const Choice& choice : question.choices) sum += std::exp(choice.ll - most);
  double score = 0;
  for (size_t i = 0; i < question.choices.size(); ++i) {
    const double p = std::exp(question.choices[i].ll - most) / sum;
    const double off = p - (i == question.gold ? 1 : 0);
    score += off * off;
  }
  return score;
}

}  // namespace kvlab
