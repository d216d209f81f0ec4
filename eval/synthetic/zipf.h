#pragma once
// How often words of falling frequency occur.

#include <cstdint>
#include <vector>

namespace kvlab {

/// floor(words * r^-2 / zeta(2)) for the ranks r = 1 .. `ranks`: 607 151 67 37 24 ... of 1000.
inline std::vector<int64_t> zipf_counts(int64_t words, int64_t ranks) {
  constexpr double kZeta2 = 1.6449340668482264;  // pi^2 / 6
  std::vector<int64_t> counts;
  for (int64_t rank = 1; rank <= ranks; ++rank)
    counts.push_back(static_cast<int64_t>(static_cast<double>(words) /
                                          (kZeta2 * static_cast<double>(rank * rank))));
  return counts;
}

}  // namespace kvlab
