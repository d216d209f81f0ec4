#pragma once
// ROUGE-L: how much of a summary comes in the reference's order.

#include <cstdint>
#include <string_view>

namespace kvlab {

enum class Unit : uint8_t { word, character };  // between white space; all but white space

/// With l the longest common subsequence of all units of both texts, P = l / predicted and R = l /
/// wanted: 2PR / (P + R), 0 where l is.
double rouge_l(std::string_view text, std::string_view reference, Unit unit);

/// What the Python package `rouge` computes, whose numbers LongBench prints.  Texts are cut at ".",
/// pieces of nothing left out (one of white space alone counts as a sentence of one empty word).
/// For each sentence of the reference, units of a longest common subsequence with every predicted
/// sentence join a set U; on the way back through the table a reference's unit is dropped only
/// where that is strictly better.  m, n: distinct units of reference and prediction; P = |U| / n,
/// R = |U| / m, F = 2PR / (P + R + 1e-8).  A text without sentences scores 0.
double rouge_l_compat(std::string_view text, std::string_view reference, Unit unit);

}  // namespace kvlab
