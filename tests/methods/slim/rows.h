#pragma once
// Matrices for tests of slim's offline half, float64, and what is said of them in plain loops.

#include <initializer_list>

#include "methods/slim/analysis.h"

namespace kvlab::test {

at::Tensor gaussian(int64_t rows, int64_t columns, unsigned seed, double deviation = 1);
at::Tensor matrix(int64_t rows, std::initializer_list<double> numbers);
at::Tensor identity(int64_t n);

/// x to the nearest number of `digits` bits of mantissa after the first, ties to even, no limits of
/// the exponent: the definition, for numbers in the normal range.
double rounded_to(double x, int digits);
int digits_of(Dtype format);
at::Tensor rounded_to(const at::Tensor& x, Dtype format);

/// Root mean square of a - b over that of b.
double apart(const at::Tensor& a, const at::Tensor& b);

/// A layer of plain multi-head attention under full RoPE, its weights, and rows that it saw.
struct Example {
  slim::Site site{};
  slim::Weights weights{};
  slim::Inputs inputs{};

  /// White inputs; W_K, W_V with elements of variance 1 / D.
  static Example random(int64_t width, int64_t heads, int64_t tokens, unsigned seed);
  /// Three quarters of x are learned from.
  void see(const at::Tensor& x);
  slim::Analysis analysis(Dtype stored, bool least_error = false) const;
};

}  // namespace kvlab::test
