#pragma once
// Interpolated modified Kneser-Ney from its definition, with sets of strings of tokens; no part of
// the code under test.

#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace kvlab::test {

class NgramDefinition {
 public:
  using Gram = std::vector<uint16_t>;

  NgramDefinition(const std::vector<std::vector<uint16_t>>& documents, int vocabulary, int order)
      : vocabulary_(vocabulary), order_(order) {
    for (const auto& document : documents) {
      Gram all{0};
      all.insert(all.end(), document.begin(), document.end());
      for (int n = 1; n <= order; ++n)
        for (size_t i = 0; i + static_cast<size_t>(n) <= all.size(); ++i) {
          const Gram gram(all.begin() + static_cast<long>(i),
                          all.begin() + static_cast<long>(i) + n);
          ++raw_[gram];
          if (i > 0) before_[gram].insert(all[i - 1]);
        }
    }
    for (int n = 1; n <= order; ++n) discounts_.push_back(discounts(n));
  }

  double probability(Gram history, uint16_t token) const {
    while (static_cast<int>(history.size()) >= order_) history.erase(history.begin());
    return down(history, token);
  }

 private:
  /// The count that stands for an n-gram: how often, or after how many tokens.
  double adjusted(const Gram& gram) const {
    if (gram == Gram{0}) return 0;  // nobody predicts a begin token
    const bool is_raw = static_cast<int>(gram.size()) == order_ || gram[0] == 0;
    if (is_raw) return raw_.contains(gram) ? static_cast<double>(raw_.at(gram)) : 0;
    return before_.contains(gram) ? static_cast<double>(before_.at(gram).size()) : 0;
  }

  std::vector<double> discounts(int n) const {
    double of[5] = {};
    for (const auto& [gram, count] : raw_) {
      const double a = adjusted(gram);
      if (static_cast<int>(gram.size()) == n && a >= 1 && a <= 4) of[static_cast<int>(a)] += 1;
    }
    if (of[1] * of[2] * of[3] * of[4] == 0) return {0, 0.5, 1, 1.5};
    const double y = of[1] / (of[1] + 2 * of[2]);
    std::vector<double> d{0, 1 - 2 * y * of[2] / of[1], 2 - 3 * y * of[3] / of[2],
                          3 - 4 * y * of[4] / of[3]};
    for (size_t i = 1; i <= 3; ++i)
      if (d[i] < 0 || d[i] > static_cast<double>(i)) return {0, 0.5, 1, 1.5};
    return d;
  }

  double discount(int n, double count) const {
    return discounts_[static_cast<size_t>(n - 1)][count >= 3 ? 3 : static_cast<size_t>(count)];
  }

  double down(const Gram& history, uint16_t token) const {
    const int n = static_cast<int>(history.size()) + 1;
    double total = 0, left = 0, own = 0;
    for (int w = 0; w < vocabulary_; ++w) {
      Gram gram = history;
      gram.push_back(static_cast<uint16_t>(w));
      const double count = adjusted(gram);
      total += count;
      left += discount(n, count);
      if (w == token && count > 0) own = count - discount(n, count);
    }
    const Gram shorter = history.empty() ? Gram{} : Gram(history.begin() + 1, history.end());
    const double below = history.empty() ? 1.0 / vocabulary_ : down(shorter, token);
    return total == 0 ? below : own / total + left / total * below;
  }

  int vocabulary_, order_;
  std::map<Gram, int64_t> raw_{};
  std::map<Gram, std::set<uint16_t>> before_{};
  std::vector<std::vector<double>> discounts_{};
};

}  // namespace kvlab::test
