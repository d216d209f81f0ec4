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
/// What the cache holds, beside a dense one of the tokens, its encoder's included, that one
/// sequence has seen.
Footprint footprint(const Cache& cache, SeqId sequence, Dtype run_dtype);
/// Bytes of a dense cache in the dtype of a run.
int64_t dense_bytes_in(Dtype run_dtype, const ModelShape& shape, int64_t tokens,
                       int64_t encoder_tokens);

}  // namespace kvlab
