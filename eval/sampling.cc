#include "eval/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace kvlab {
namespace {

/// Larger logits first, ties to the lower token.
struct Before {
  std::span<const float> logits;
  bool operator()(int32_t a, int32_t b) const {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  }
};

int32_t largest(std::span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  int32_t best = -1;
  float most = -kInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    KVLAB_REQUIRE(logits[i] < kInfinity, "E_NONFINITE", "logit of token ", i, " is ", logits[i]);
    if (logits[i] > most) {
      most = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  KVLAB_REQUIRE(best >= 0, "E_NONFINITE", "every one of ", logits.size(), " logits is -inf");
  return best;
}

/// exp((logit - most) / temperature): in (0, 1].
std::vector<double> weights_of(std::span<const float> logits, std::span<const int32_t> tokens,
                               float most, double temperature) {
  std::vector<double> weights;
  weights.reserve(tokens.size());
  for (const int32_t token : tokens) {
    const double below = static_cast<double>(logits[static_cast<size_t>(token)]) - most;
    weights.push_back(std::exp(below / temperature));
  }
  return weights;
}

/// The tokens that may be drawn, in the order of their ids.
std::vector<int32_t> kept(std::span<const float> logits, const Sampling& sampling, float most) {
  std::vector<int32_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  const bool cuts_k = sampling.top_k > 0 && sampling.top_k < std::ssize(tokens);
  if (!cuts_k && sampling.top_p >= 1) return tokens;

  const auto first = tokens.begin();
  std::partial_sort(first, cuts_k ? first + sampling.top_k : tokens.end(), tokens.end(),
                    Before{logits});
  if (cuts_k) tokens.resize(static_cast<size_t>(sampling.top_k));
  const std::vector<double> weights = weights_of(logits, tokens, most, sampling.temperature);
  const double enough = sampling.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  size_t n = 0;
  while (n < tokens.size() && (n == 0 || sum < enough)) sum += weights[n++];
  tokens.resize(n);
  std::ranges::sort(tokens);
  return tokens;
}

}  // namespace

void check(const Sampling& s, int64_t vocab_size) {
  KVLAB_REQUIRE(std::isfinite(s.temperature) && s.temperature >= 0, "E_CONFIG",
                "sampling: temperature is ", s.temperature, ", must be 0 (greedy) or above");
  KVLAB_REQUIRE(s.top_p > 0 && s.top_p <= 1, "E_CONFIG", "sampling: top_p is ", s.top_p,
                ", must be in (0, 1]");
  KVLAB_REQUIRE(s.top_k >= 0, "E_CONFIG", "sampling: top_k is ", s.top_k,
                ", must be 0 (all) or above");
  KVLAB_REQUIRE(s.top_k <= vocab_size, "E_BAD_TOPK", "sampling: top_k is ", s.top_k,
                ", the vocabulary has ", vocab_size, " tokens");
  KVLAB_REQUIRE(s.temperature > 0 || (s.top_k == 0 && s.top_p == 1), "E_CONFIG",
                "sampling: top_k and top_p choose among several tokens, temperature 0 takes the "
                "largest; give a temperature");
}

int32_t choose(std::span<const float> logits, const Sampling& sampling, SplitMix64& random) {
  const int32_t best = largest(logits);
  if (sampling.temperature == 0) return best;
  const float most = logits[static_cast<size_t>(best)];
  const std::vector<int32_t> tokens = kept(logits, sampling, most);
  const std::vector<double> weights = weights_of(logits, tokens, most, sampling.temperature);
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double drawn = random.u01() * total;
  double sum = 0;
  int32_t chosen = best;  // where rounding leaves `drawn` beyond the last sum
  for (size_t i = 0; i < tokens.size(); ++i) {
    sum += weights[i];
    if (drawn < sum) {
      chosen = tokens[i];
      break;
    }
  }
  return chosen;
}

}  // namespace kvlab
