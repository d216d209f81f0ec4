#pragma once
// One sample through one cache: prefill and compress, feed, generate; scores are taken while logits
// pass by, so that a run never holds tokens times vocabulary of them.

#include <functional>

#include "core/cache.h"
#include "eval/model.h"
#include "eval/outcome.h"
#include "eval/sample.h"

namespace kvlab {

/// What is evaluated.
struct Subject {
  Model* model = nullptr;
  const Composition* composition = nullptr;
  const Registry* registry = nullptr;
  Where where{};  // its run_dtype is the model's
};

/// How tokens reach the cache.
struct Feeding {
  int64_t prefill_chunk = 512;  // 0: the context at once
  int64_t query_chunk = 0;      // 0: a query at once
  ReadPolicy read = ReadPolicy::raw_chunk;
  bool query_aware = false;  // all but the last token of the first query join the context
};

/// Called after every pass with the tokens it fed.
using Fedback = std::function<void(int64_t tokens)>;

/// Logits that are not finite end the sample: the outcome says so and where; nothing is thrown.
Outcome run_sample(const Subject& subject, const Sample& sample, const Feeding& feeding,
                   std::vector<KernelUse>* kernels = nullptr, const Fedback& fed = {});

/// The sample with everything in one prompt, scored as before.
Sample in_one_pass(const Sample& sample);

/// Whether any token is scored (or generated) by a pass that reads what was stored: with raw_chunk
/// a later pass than the first, otherwise any token but the first.
bool reads_compressed(const Sample& sample, const Feeding& feeding);

}  // namespace kvlab
