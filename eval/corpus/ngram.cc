#include "eval/corpus/ngram.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"

namespace kvlab::corpus {
namespace {

/// Where documents begin, and the end of the last one.
std::vector<size_t> boundaries(std::span<const uint16_t> tokens) {
  KVLAB_REQUIRE(!tokens.empty() && tokens[0] == kBeginToken, "E_FORMAT",
                "n-grams: the text does not begin with token ", kBeginToken,
                ", which stands in front of every document");
  std::vector<size_t> at;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] == kBeginToken) at.push_back(i);
  at.push_back(tokens.size());
  return at;
}

/// Sorts and counts what is equal.
void count_runs(std::vector<uint64_t>& keys, std::vector<uint32_t>& counts) {
  std::ranges::sort(keys);
  size_t kept = 0;
  for (size_t i = 0; i < keys.size();) {
    size_t end = i;
    while (end < keys.size() && keys[end] == keys[i]) ++end;
    keys[kept++] = keys[i];
    counts.push_back(static_cast<uint32_t>(end - i));
    i = end;
  }
  keys.resize(kept);
  keys.shrink_to_fit();
}

size_t place(const std::vector<uint64_t>& keys, uint64_t key) {  // keys.size(): it is not there
  const auto found = std::ranges::lower_bound(keys, key);
  return found != keys.end() && *found == key ? static_cast<size_t>(found - keys.begin())
                                              : keys.size();
}

size_t grade(uint32_t count) { return std::min<uint32_t>(count, 3) - 1; }

}  // namespace

Unigram::Unigram(std::span<const uint16_t> tokens, int64_t vocabulary)
    : counts_(static_cast<size_t>(vocabulary), 0) {
  for (const uint16_t token : tokens) {
    KVLAB_REQUIRE(token < vocabulary, "E_POSITION", "n-grams: token ", token,
                  " is outside a vocabulary of ", vocabulary);
    if (token == kBeginToken) continue;
    ++counts_[token];
    ++all_;
  }
}

double Unigram::probability(std::span<const uint16_t>, uint16_t token) const {
  return static_cast<double>(counts_[token] + 1) / static_cast<double>(all_ + std::ssize(counts_));
}

KneserNey::KneserNey(std::span<const uint16_t> tokens, int64_t vocabulary, int order)
    : vocabulary_(vocabulary),
      bits_(std::bit_width(static_cast<uint64_t>(vocabulary - 1))),
      orders_(static_cast<size_t>(order)) {
  KVLAB_REQUIRE(order >= 1 && order * bits_ <= 64, "E_UNSUPPORTED", "n-grams: order ", order,
                " of a vocabulary of ", vocabulary, " takes ", order * bits_,
                " bits, 64 are there; lower the order");
  for (const uint16_t token : tokens)
    KVLAB_REQUIRE(token < vocabulary, "E_POSITION", "n-grams: token ", token,
                  " is outside a vocabulary of ", vocabulary);
  count_longest(tokens);
  for (int n = order - 1; n >= 1; --n) count_shorter(tokens, n);
  for (Order& one : orders_) discount(one);
}

uint64_t KneserNey::packed(std::span<const uint16_t> tokens) const {
  uint64_t key = 0;
  for (const uint16_t token : tokens) key = key << bits_ | token;
  return key;
}

void KneserNey::count_longest(std::span<const uint16_t> tokens) {
  Order& longest = orders_.back();
  const size_t n = orders_.size();
  const std::vector<size_t> begins = boundaries(tokens);
  for (size_t d = 0; d + 1 < begins.size(); ++d) {
    // A lone token is an event unless it is the begin token.
    for (size_t i = begins[d] + (n == 1 ? 1 : 0); i + n <= begins[d + 1]; ++i)
      longest.grams.push_back(packed(tokens.subspan(i, n)));
  }
  count_runs(longest.grams, longest.counts);
}

/// Every n-gram has a token in front of it in its document, and so is the end of an (n + 1)-gram,
/// unless it begins with the begin token.
void KneserNey::count_shorter(std::span<const uint16_t> tokens, int n) {
  const auto size = static_cast<size_t>(n);
  const Order& longer = orders_[size];
  Order& order = orders_[size - 1];
  const uint64_t mask = (uint64_t{1} << (n * bits_)) - 1;
  order.grams.reserve(longer.grams.size());
  for (const uint64_t gram : longer.grams) order.grams.push_back(gram & mask);
  if (n > 1) {
    const std::vector<size_t> begins = boundaries(tokens);
    for (size_t d = 0; d + 1 < begins.size(); ++d)
      if (begins[d] + size <= begins[d + 1])
        order.grams.push_back(packed(tokens.subspan(begins[d], size)));
  }
  count_runs(order.grams, order.counts);
}

void KneserNey::discount(Order& order) const {
  double of[5] = {};  // how many n-grams have a count of 1, 2, 3, 4
  for (const uint32_t count : order.counts)
    if (count <= 4) of[count] += 1;
  const double y = of[1] / (of[1] + 2 * of[2]);
  double wanted[3] = {};
  bool is_usable = true;
  for (int i = 1; i <= 3; ++i) {
    wanted[i - 1] = i - (i + 1) * y * of[i + 1] / of[i];
    is_usable = is_usable && of[i + 1] > 0 && wanted[i - 1] >= 0 && wanted[i - 1] <= i;  // no NaN
  }
  if (is_usable) std::ranges::copy(wanted, order.discounts);
  for (size_t i = 0; i < order.grams.size();) {
    const uint64_t context = order.grams[i] >> bits_;
    uint64_t total = 0;
    double given = 0;
    for (; i < order.grams.size() && order.grams[i] >> bits_ == context; ++i) {
      total += order.counts[i];
      given += order.discounts[grade(order.counts[i])];
    }
    order.contexts.push_back(context);
    order.totals.push_back(static_cast<uint32_t>(total));
    order.left.push_back(given / static_cast<double>(total));
  }
}

double KneserNey::probability(std::span<const uint16_t> history, uint16_t token) const {
  double probability = 1.0 / static_cast<double>(vocabulary_);
  for (size_t n = 1; n <= std::min(orders_.size(), history.size() + 1); ++n) {
    const Order& order = orders_[n - 1];
    const uint64_t context = packed(history.last(n - 1));
    const size_t at = place(order.contexts, context);
    if (at == order.contexts.size()) break;  // nor does any longer one occur
    double own = 0;
    if (const size_t gram = place(order.grams, context << bits_ | token); gram < order.grams.size())
      own = order.counts[gram] - order.discounts[grade(order.counts[gram])];
    probability = own / order.totals[at] + order.left[at] * probability;
  }
  return probability;
}

template <class Model>
CrossEntropy cross_entropy(const Model& model, std::span<const uint16_t> tokens) {
  const std::vector<size_t> begins = boundaries(tokens);
  CrossEntropy sum;
  for (size_t d = 0; d + 1 < begins.size(); ++d) {
    for (size_t i = begins[d] + 1; i < begins[d + 1]; ++i) {
      const auto history = tokens.subspan(begins[d], i - begins[d]);
      sum.nats -= std::log(model.probability(history, tokens[i]));
      ++sum.tokens;
    }
  }
  KVLAB_REQUIRE(sum.tokens > 0, "E_TEXT_TOO_SHORT", "n-grams: no token to predict");
  sum.nats /= static_cast<double>(sum.tokens);
  return sum;
}

template CrossEntropy cross_entropy(const Unigram&, std::span<const uint16_t>);
template CrossEntropy cross_entropy(const KneserNey&, std::span<const uint16_t>);

}  // namespace kvlab::corpus
