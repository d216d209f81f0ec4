#pragma once
// The longest common subsequence of two lists.

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace kvlab {

/// Its length: |a| |b| steps, two rows of memory.
template <class List>
size_t lcs_length(const List& a, const List& b) {
  std::vector<size_t> above(b.size() + 1, 0), row(b.size() + 1, 0);
  for (const auto& x : a) {
    for (size_t j = 0; j < b.size(); ++j)
      row[j + 1] = x == b[j] ? above[j] + 1 : std::max(above[j + 1], row[j]);
    std::swap(above, row);
  }
  return above[b.size()];
}

}  // namespace kvlab
