#pragma once
// One sample through one cache: prefill and compress, feed, generate; scores are taken while logits
// pass by, so that a run never holds tokens times vocabulary of them.

#include <functional>

#include "core/cache.h"
#include "eval/companion.h"
#include "eval/feeding.h"
#include "eval/model.h"
#include "eval/outcome.h"
#include "eval/sample.h"
#include "eval/tokenizer.h"

namespace kvlab {

/// What is evaluated.
struct Subject {
  Model* model = nullptr;
  const Composition* composition = nullptr;
  const Registry* registry = nullptr;
  Where where{};                   // its run_dtype is the model's
  Tokenizer* tokenizer = nullptr;  // turns what is generated into text; null: tokens are all
};

/// Who else wants to know; all may be absent.
struct Onlookers {
  std::function<void(int64_t tokens)> fed{};  // after every pass, with the tokens it fed
  std::vector<KernelUse>* kernels = nullptr;  // which ones ran
  Companion* companion = nullptr;
};

/// Logits that are not finite end the sample: the outcome says so and where; nothing is thrown.
Outcome run_sample(const Subject& subject, const Sample& sample, const Feeding& feeding,
                   const Onlookers& onlookers = {});

}  // namespace kvlab
