#pragma once
// What a cache holds, checked against itself.

#include <vector>

#include "core/cache.h"
#include "eval/outcome.h"

namespace kvlab {

/// E_BYTES_MISMATCH unless the layers add up to the total and all of it is committed memory
/// (`page`: what the allocator may round).
void check_bytes(const Bytes& total, const std::vector<Bytes>& layers, int64_t page);
void check_bytes(const Cache& cache);
Footprint footprint(const Cache& cache, int64_t tokens, Dtype run_dtype);

}  // namespace kvlab
