#include "eval/nll.h"

#include <cmath>

#include "core/error.h"

namespace kvlab {

int32_t arg_max(std::span<const float> logits) {
  size_t best = 0;
  float nonfinite = 0;  // x * 0 is 0 for every finite x and NaN otherwise
  for (size_t v = 0; v < logits.size(); ++v) {
    nonfinite += logits[v] * 0.0f;
    if (logits[v] > logits[best]) best = v;
  }
  KVLAB_REQUIRE(nonfinite == 0, "E_NONFINITE",
                "logits: NaN or infinite; look at the model's weights, or at a dtype too narrow");
  return static_cast<int32_t>(best);
}

TokenScore score_token(std::span<const float> logits, int32_t label) {
  KVLAB_REQUIRE(label >= 0 && static_cast<size_t>(label) < logits.size(), "E_POSITION", "token ",
                label, " is outside the vocabulary 0..", logits.size() - 1);
  const int32_t best = arg_max(logits);
  const double top = logits[static_cast<size_t>(best)];
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  return {std::log(sum) - (logits[static_cast<size_t>(label)] - top), best};
}

}  // namespace kvlab
