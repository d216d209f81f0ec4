#pragma once
// The monoid of attention states.  The state of a set of tokens is (max, sum, o): max = log2(e) *
// the largest logit, sum = sum of 2^(logit - max), o = the unnormalised weighted sum of values; its
// identity is (-infinity, 0, 0).  Merging is exact for any partition of the tokens, in any order,
// up to float32 rounding, and linear maps of o commute with it.

#include <cmath>
#include <limits>

namespace kvlab {

/// Weights of two states in their union, and what the union's state is.
struct Merge {
  float max = 0, sum = 0, a = 0, b = 0;  // o = a * o_a + b * o_b

  static Merge of(float max_a, float sum_a, float max_b, float sum_b) {
    Merge m;
    m.max = max_a > max_b ? max_a : max_b;
    if (m.max == -std::numeric_limits<float>::infinity()) return m;  // both empty: the identity
    m.a = std::exp2(max_a - m.max);
    m.b = std::exp2(max_b - m.max);
    m.sum = m.a * sum_a + m.b * sum_b;
    return m;
  }
};

/// The natural log-sum-exp of a state; -infinity for the identity.
inline float lse_ln(float max, float sum) {
  constexpr double kLn2 = 0.69314718055994530942;
  if (!(sum > 0)) return sum == 0 ? -std::numeric_limits<float>::infinity() : sum;
  return static_cast<float>(kLn2 * max + std::log(static_cast<double>(sum)));
}

/// The same of normalised states (lse, O): how much of each goes into the union.
struct MergeNormalised {
  float lse = -std::numeric_limits<float>::infinity(), a = 0, b = 0;

  static MergeNormalised of(float lse_a, float lse_b) {
    MergeNormalised m;
    const float max = lse_a > lse_b ? lse_a : lse_b;
    if (max == -std::numeric_limits<float>::infinity()) return m;
    const float a = std::exp(lse_a - max), b = std::exp(lse_b - max);
    m.a = a / (a + b);
    m.b = b / (a + b);
    m.lse = max + std::log(a + b);
    return m;
  }
};

}  // namespace kvlab
