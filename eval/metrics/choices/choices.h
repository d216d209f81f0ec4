#pragma once
// Questions that are answered by the likelihood of given continuations.
//
// The sample's meta names them: {"choices": [{"characters": 3, "bytes": 3}, ...], "gold": 1}.  Turn
// i scored choice i after the context; where there are twice as many turns, the later half scored
// the same tokens after nothing.

#include <cstdint>
#include <optional>
#include <vector>

#include "eval/outcome.h"

namespace kvlab {

struct Choice {
  double ll = 0;        // sum of ln p over its tokens, after the context
  double ll_alone = 0;  // after nothing
  int64_t characters = 0, bytes = 0, tokens = 0;
  bool is_greedy = false;  // every token was the arg max
};

struct Question {
  std::vector<Choice> choices{};
  size_t gold = 0;
  bool has_alone = false;
};

/// Nothing where the sample asks no such question.
std::optional<Question> question_of(const Outcome& outcome);

/// The choice that a rule likes best; ties go to the first.
enum class ChosenBy : uint8_t { ll, per_character, per_byte, per_token, mutual_information };
size_t chosen(const std::vector<Choice>& choices, ChosenBy rule);

/// With p = softmax(ll): sum of (p_i - [i is gold])^2, 0..2.
double brier(const Question& question);

}  // namespace kvlab
