#pragma once
// What counting can predict: the baselines that a language model has to be clearly below.

#include <cstdint>
#include <span>
#include <vector>

namespace kvlab::corpus {

inline constexpr int32_t kBeginToken = 0;  // in front of every document, predicted by nobody

/// Tokens by their frequency, one added to each count: (c(w) + 1) / (N + V).
class Unigram {
 public:
  /// Documents back to back, each with its begin token.
  Unigram(std::span<const uint16_t> tokens, int64_t vocabulary);
  double probability(std::span<const uint16_t> history, uint16_t token) const;

 private:
  std::vector<int64_t> counts_{};
  int64_t all_ = 0;
};

/// Interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3.3):
///
///   p(w | h) = max(a(h w) - D(a(h w)), 0) / a(h .) + gamma(h) p(w | h'),   h' = h less its first,
///
/// down to 1 / V.  a: of the longest n-grams and of those that begin a document, how often they
/// occur; of others, behind how many tokens.  D(1), D(2), D(3 and more) per order from the counts
/// of counts n1..n4: Y = n1 / (n1 + 2 n2), D(i) = i - (i + 1) Y n(i+1) / n(i); 1/2, 1, 3/2 in an
/// order that lacks one of them or where a D(i) is not in [0, i] (few tokens, little text).
/// gamma(h) hands on what was discounted, so probabilities of one history sum to 1.
class KneserNey {
 public:
  /// Documents back to back, each with its begin token.  order * bits(vocabulary) <= 64:
  /// E_UNSUPPORTED.  Takes about 32 bytes for each distinct n-gram of each order.
  KneserNey(std::span<const uint16_t> tokens, int64_t vocabulary, int order);
  /// `history`: all of the document before, its begin token first; only its end matters.
  double probability(std::span<const uint16_t> history, uint16_t token) const;

 private:
  struct Order {
    std::vector<uint64_t> grams{};     // n tokens, the oldest in the highest bits; rising
    std::vector<uint32_t> counts{};    // a
    std::vector<uint64_t> contexts{};  // their first n - 1 tokens; rising
    std::vector<uint32_t> totals{};    // a(h .)
    std::vector<double> left{};        // gamma(h)
    double discounts[3] = {0.5, 1, 1.5};
  };
  void count_longest(std::span<const uint16_t> tokens);
  void count_shorter(std::span<const uint16_t> tokens, int n);
  void discount(Order& order) const;
  uint64_t packed(std::span<const uint16_t> tokens) const;

  int64_t vocabulary_;
  int bits_ = 1;
  std::vector<Order> orders_{};  // [n - 1]
};

struct CrossEntropy {
  int64_t tokens = 0;
  double nats = 0;  // per token
};

/// Over every token but the begin tokens, in float64.
template <class Model>
CrossEntropy cross_entropy(const Model& model, std::span<const uint16_t> tokens);

}  // namespace kvlab::corpus
