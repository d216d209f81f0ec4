#pragma once
// How a sample's tokens reach a cache: in which chunks, and what is prompt.

#include "core/chunk.h"
#include "eval/sample.h"

namespace kvlab {

struct Feeding {
  int64_t prefill_chunk = 512;  // 0: the context at once
  int64_t query_chunk = 0;      // 0: a query at once
  ReadPolicy read = ReadPolicy::raw_chunk;
  bool query_aware = false;  // all but the last token of the first query join the context
};

/// Without gaps: as many labels as ids.
Fed with_labels(Fed fed);

void join(Fed& all, const Fed& more);

/// Context and queries as they are fed: the query moves into the context where asked, and a turn
/// that generates from an empty query holds back the last token of the context, because its first
/// logits must come from the compressed cache.
Sample as_fed(const Sample& sample, const Feeding& feeding);

/// The sample with everything in one prompt, scored as before.
Sample in_one_pass(const Sample& sample);

/// Whether any token is scored (or generated) by a pass that reads what was stored: with raw_chunk
/// a later pass than the first, otherwise any token but the first.
bool reads_compressed(const Sample& sample, const Feeding& feeding);

}  // namespace kvlab
