#pragma once
// Whether the tokens that an answer is made of are still in the cache.

#include <vector>

#include "core/cache.h"

namespace kvlab {

/// Share of the needles' positions that each kv head still holds: [layer][kv head], heads that
/// share a list share its number; empty for a layer that keeps no list of its own.  Empty without
/// needles.
std::vector<std::vector<double>> needle_retention(const Cache& cache, SeqId sequence,
                                                  const std::vector<Range>& needles);

}  // namespace kvlab
