#include "tests/methods/slim/definition.h"

#include <cmath>
#include <numeric>

#include "core/types.h"

namespace kvlab::test {
namespace {

/// Positions whose rows the query at q reads.
bool reads(const Layer& layer, const Changes& changes, int64_t q, int64_t j) {
  if (j > q || (layer.window_left >= 0 && j < q - layer.window_left)) return false;
  return !changes.reads || changes.reads(q, j);
}

double logit_of(const Layer& layer, int head, int64_t q, int64_t j,
                const std::vector<double>& query, const std::vector<double>& key) {
  double logit = layer.scale * std::inner_product(query.begin(), query.end(), key.begin(), 0.0);
  if (!layer.alibi_slopes.empty())
    logit += double{layer.alibi_slopes[at(head)]} * static_cast<double>(j - q);
  return layer.softcap > 0 ? layer.softcap * std::tanh(logit / layer.softcap) : logit;
}

}  // namespace

std::vector<std::vector<double>> dense_attention(const FakeModel& model, int64_t n,
                                                 const Changes& changes) {
  std::vector<std::vector<double>> out;
  for (int l = 0; l < model.config().layers; ++l) {
    const Layer& layer = model.shape().layers[at(l)];
    const int64_t dv = layer.value_dim;
    std::vector<double>& mine = out.emplace_back(at(n * layer.num_heads * dv), 0.0);
    for (int h = 0; h < layer.num_heads; ++h) {
      const int head = h / (layer.num_heads / layer.num_kv_heads);
      std::vector<std::vector<double>> keys, values;
      for (int64_t j = 0; j < n; ++j) {
        keys.push_back(changes.key ? changes.key(l, head, j) : model.key(l, head, j));
        turn(layer.rope, static_cast<double>(j), keys.back());
        values.push_back(changes.value ? changes.value(l, head, j) : model.value(l, head, j));
      }
      for (int64_t q = 0; q < n; ++q) {
        std::vector<double> query = model.query(l, h, q);
        turn(layer.rope, static_cast<double>(q), query);
        double* const to = mine.data() + (q * layer.num_heads + h) * dv;
        double total = layer.learned_sink ? std::exp(double{model.layer(l).sinks[at(h)]}) : 0;
        for (int64_t j = 0; j <= q; ++j) {
          if (!reads(layer, changes, q, j)) continue;
          const double weight = std::exp(logit_of(layer, h, q, j, query, keys[at(j)]));
          total += weight;
          for (int64_t c = 0; c < dv; ++c) to[c] += weight * values[at(j)][at(c)];
        }
        for (int64_t c = 0; c < dv && total > 0; ++c) to[c] /= total;
        if (!changes.added) continue;
        const std::vector<double> more = changes.added(l, head, q);
        for (int64_t c = 0; c < dv; ++c) to[c] += more[at(c)];
      }
    }
  }
  return out;
}

}  // namespace kvlab::test
