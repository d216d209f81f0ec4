#include "eval/fidelity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace kvlab {
namespace {

/// ln softmax(logits)[v] = logits[v] - shift.
double shift_of(std::span<const float> logits) {
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  return top + std::log(sum);
}

/// x ln(x / y), 0 ln 0 = 0.
double divergence(double x, double log_ratio) { return x == 0 ? 0 : x * log_ratio; }

double top_margin(std::span<const float> logits) {
  float first = logits[0], second = logits[0];
  bool has_second = false;
  for (const float x : logits.subspan(1)) {
    if (x > first) {
      second = first;
      first = x;
      has_second = true;
    } else if (!has_second || x > second) {
      second = x;
      has_second = true;
    }
  }
  return static_cast<double>(first) - second;
}

}  // namespace

TokenFidelity compare_logits(std::span<const float> dense, std::span<const float> other,
                             int32_t label) {
  KVLAB_CHECK(dense.size() == other.size() && dense.size() > 1);
  const double dense_shift = shift_of(dense), other_shift = shift_of(other);
  TokenFidelity got{.margin = top_margin(dense)};
  got.agrees = std::ranges::max_element(dense) - dense.begin() ==
               std::ranges::max_element(other) - other.begin();
  for (size_t v = 0; v < dense.size(); ++v) {
    const double log_p = dense[v] - dense_shift, log_q = other[v] - other_shift;
    const double p = std::exp(log_p), q = std::exp(log_q);
    got.kl += divergence(p, log_p - log_q);
    got.kl_rev += divergence(q, log_q - log_p);
    if (p != q) {
      // Divided before the logarithm: 1 where both are equal, whatever exp has rounded.
      got.js += divergence(p, std::log(2 * p / (p + q))) / 2;
      got.js += divergence(q, std::log(2 * q / (p + q))) / 2;
    }
    got.tv += std::abs(p - q) / 2;
    if (static_cast<size_t>(label) == v) {
      got.dp = q - p;
      got.dense_nll = -log_p;
    }
    const double difference = static_cast<double>(dense[v]) - other[v];
    got.max_abs = std::max(got.max_abs, std::abs(difference));
    got.mean_abs += std::abs(difference);
    got.error += difference * difference;
    got.norm += static_cast<double>(dense[v]) * dense[v];
  }
  got.mean_abs /= static_cast<double>(dense.size());
  return got;
}

std::vector<int32_t> top_k(std::span<const float> logits, int k) {
  KVLAB_REQUIRE(k >= 1 && static_cast<size_t>(k) <= logits.size(), "E_BAD_TOPK", "top-k: k = ", k,
                ", a vocabulary of ", logits.size(), " allows 1..", logits.size());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
  order.resize(static_cast<size_t>(k));
  return order;
}

int top_k_overlap(std::span<const float> dense, std::span<const float> other, int k) {
  std::vector<int32_t> a = top_k(dense, k), b = top_k(other, k), both;
  std::ranges::sort(a);
  std::ranges::sort(b);
  std::ranges::set_intersection(a, b, std::back_inserter(both));
  return static_cast<int>(both.size());
}

void Fidelity::add(std::span<const float> dense, std::span<const float> other, int32_t label) {
  const TokenFidelity token = compare_logits(dense, other, label);
  kl.push_back(token.kl);
  kl_rev.push_back(token.kl_rev);
  js.push_back(token.js);
  tv.push_back(token.tv);
  dp.push_back(token.dp);
  margin.push_back(token.margin);
  dense_nll.push_back(token.dense_nll);
  max_abs.push_back(token.max_abs);
  mean_abs.push_back(token.mean_abs);
  agrees.push_back(token.agrees ? 1 : 0);
  error += token.error;
  norm += token.norm;
  std::vector<uint8_t>* const overlaps[] = {&overlap_5, &overlap_10, &overlap_50};
  for (size_t i = 0; i < std::size(kTopK); ++i) {
    if (static_cast<size_t>(kTopK[i]) > dense.size()) continue;
    overlaps[i]->push_back(static_cast<uint8_t>(top_k_overlap(dense, other, kTopK[i])));
  }
}

}  // namespace kvlab
