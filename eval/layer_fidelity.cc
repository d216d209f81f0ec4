#include "eval/layer_fidelity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/artifact.h"
#include "eval/models/rotate.h"

namespace kvlab {
namespace {

double sum_of_squares(std::span<const float> x) {
  return std::transform_reduce(x.begin(), x.end(), 0.0, std::plus<>(),
                               [](double v) { return v * v; });
}

double distance_squared(std::span<const float> a, std::span<const float> b) {
  return std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                               [](double x, double y) { return (x - y) * (x - y); });
}

double dot(std::span<const float> a, std::span<const float> b) {
  return std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                               [](double x, double y) { return x * y; });
}

std::span<const float> floats(const Tensor& tensor) {
  return {reinterpret_cast<const float*>(tensor.view.data),
          static_cast<size_t>(tensor.view.numel())};
}

/// Keys before RoPE [n, Hkv, d] and values [n, Hkv, dv] of a range of positions.
struct Stored {
  Tensor keys, values;
};

Stored stored(int layer, const Held& held, Range positions) {
  const Layer& site = held.cache->shape().layers[static_cast<size_t>(layer)];
  Stored rows{
      make_tensor("keys", Dtype::f32, {positions.size(), site.num_kv_heads, site.head_dim}),
      make_tensor("values", Dtype::f32, {positions.size(), site.num_kv_heads, site.value_dim})};
  held.cache->materialise(layer, held.sequence, positions, rows.keys.view, rows.values.view);
  return rows;
}

/// What each list of a layer holds; empty: the layer keeps none of its own.
std::vector<std::vector<int32_t>> lists_of(int layer, const Held& held) {
  std::vector<std::vector<int32_t>> lists(held.cache->live_rows(layer, held.sequence).size());
  for (size_t l = 0; l < lists.size(); ++l)
    lists[l] = held.cache->positions(layer, held.sequence, static_cast<int>(l));
  return lists;
}

/// Stretches of positions that every list holds.
std::vector<Range> common_runs(const std::vector<std::vector<int32_t>>& lists) {
  std::vector<int32_t> common = lists.front();
  for (const auto& list : lists) {
    std::vector<int32_t> both;
    std::ranges::set_intersection(common, list, std::back_inserter(both));
    common = std::move(both);
  }
  std::vector<Range> runs;
  for (const int32_t position : common) {
    if (runs.empty() || runs.back().last != position) runs.push_back({position, position});
    ++runs.back().last;
  }
  return runs;
}

void rotate(const Layer& site, int32_t first, TensorView rows) {
  if (!site.rope) return;
  std::vector<int32_t> positions(static_cast<size_t>(rows.size(0)));
  std::iota(positions.begin(), positions.end(), first);
  Rotation(site.rope, positions).apply(rows, rows);
}

/// Probabilities of the logits that are not hidden, in place; hidden ones are -infinity.
void softmax(std::span<double> logits) {
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (double& x : logits) sum += x = std::exp(x - top);
  for (double& x : logits) x /= sum;
}

double capped(const Layer& site, double logit) {
  return site.softcap > 0 ? site.softcap * std::tanh(logit / site.softcap) : logit;
}

/// Of a self layer's head, for a key so far behind the query; hidden ones are -infinity.
double logit(const Layer& site, const AskedQuery& query, size_t head, int64_t distance,
             double product) {
  if (site.window_left >= 0 && distance > site.window_left) return -INFINITY;
  double logit = site.scale * product;
  if (site.distance_bias > 0) {
    const auto h = static_cast<int64_t>(head);
    const int64_t entry = std::min<int64_t>(distance, site.distance_bias - 1);
    logit += reinterpret_cast<const float*>(query.distance_bias.at(h))[entry];
  }
  logit = capped(site, logit);
  if (!site.alibi_slopes.empty()) logit -= site.alibi_slopes[head] * static_cast<double>(distance);
  return logit;
}

/// Of the probabilities at positions 0, 1, ... those that a list does not hold.
double mass_outside(std::span<const int32_t> list, std::span<const double> probs) {
  double lost = 0;
  auto held = list.begin();
  for (size_t j = 0; j < probs.size(); ++j) {
    if (held != list.end() && *held == static_cast<int32_t>(j)) {
      ++held;
    } else {
      lost += probs[j];
    }
  }
  return lost;
}

}  // namespace

void compare_outputs(std::span<const float> dense, std::span<const float> other,
                     LayerFidelity& layer, std::span<double> head_error,
                     std::span<double> head_norm) {
  const double norm = sum_of_squares(dense), error = distance_squared(dense, other);
  if (norm > 0) {
    layer.nmse.push_back(error / norm);
    const double both = std::sqrt(norm * sum_of_squares(other));
    layer.cosine.push_back(both > 0 ? dot(dense, other) / both : 0);
  }
  const size_t width = dense.size() / head_error.size();
  for (size_t h = 0; h < head_error.size(); ++h) {
    const auto head = [&](std::span<const float> all) { return all.subspan(h * width, width); };
    head_error[h] += distance_squared(head(dense), head(other));
    head_norm[h] += sum_of_squares(head(dense));
  }
}

void compare_rows(int layer, const Held& dense, const Held& other, LayerFidelity& result) {
  const Layer& site = dense.cache->shape().layers[static_cast<size_t>(layer)];
  const auto lists = lists_of(layer, other);
  if (lists.empty()) return;
  for (const auto& list : lists)
    if (site.kind == Layer::Kind::self)
      result.retained.insert(result.retained.end(),
                             static_cast<size_t>(site.num_kv_heads) / lists.size(),
                             std::ssize(list));
  for (const Range run : common_runs(lists)) {
    const Stored a = stored(layer, dense, run), b = stored(layer, other, run);
    result.key_error += distance_squared(floats(a.keys), floats(b.keys));
    result.key_norm += sum_of_squares(floats(a.keys));
    result.value_error += distance_squared(floats(a.values), floats(b.values));
    result.value_norm += sum_of_squares(floats(a.values));
    for (size_t i = 0; i < floats(a.keys).size(); ++i) {
      const double error = std::abs(static_cast<double>(floats(a.keys)[i]) - floats(b.keys)[i]);
      result.key_max_abs = std::max(result.key_max_abs, error);
    }
  }
}

void compare_scores(int layer, const AskedQuery& query, const Held& dense, const Held& other,
                    LayerFidelity& result) {
  const Layer& site = dense.cache->shape().layers[static_cast<size_t>(layer)];
  const auto lists = lists_of(layer, other);
  const bool crosses = site.kind == Layer::Kind::cross;
  // On self layers the query's own row comes last, which `other` does not have yet.
  const int64_t rows =
      crosses ? dense.cache->encoder_tokens_seen(dense.sequence) : int64_t{query.position} + 1;
  const int64_t before = crosses ? rows : query.position;
  if (lists.empty() || before == 0) return;
  const auto width = static_cast<size_t>(site.head_dim);
  const auto kv_heads = static_cast<size_t>(site.num_kv_heads);
  const auto heads = static_cast<size_t>(site.num_heads), groups = heads / kv_heads;
  Tensor q = make_tensor("query", Dtype::f32, {1, site.num_heads, site.head_dim});
  std::ranges::copy(query.features, reinterpret_cast<float*>(q.view.data));
  rotate(site, query.position, q.view);
  const auto head = [&](const Tensor& from, size_t row, size_t h, size_t of) {
    return floats(from).subspan((row * of + h) * width, width);
  };

  const Stored all = stored(layer, dense, {0, rows});
  rotate(site, 0, all.keys.view);
  for (size_t h = 0; h < heads; ++h) {
    std::vector<double> logits;
    for (int64_t j = 0; j < rows; ++j) {
      const double product =
          dot(head(q, 0, h, heads), head(all.keys, static_cast<size_t>(j), h / groups, kv_heads));
      logits.push_back(crosses ? capped(site, site.scale * product)
                               : logit(site, query, h, query.position - j, product));
    }
    softmax(logits);
    result.mass_lost.push_back(mass_outside(lists[h / groups * lists.size() / kv_heads],
                                            std::span(logits).first(static_cast<size_t>(before))));
  }

  for (const Range run : common_runs(lists)) {
    const Stored kept = stored(layer, other, run);
    rotate(site, static_cast<int32_t>(run.first), kept.keys.view);
    for (size_t r = 0; r < static_cast<size_t>(run.size()); ++r)
      for (size_t h = 0; h < heads; ++h) {
        const auto asked = head(q, 0, h, heads);
        const double error =
            dot(asked, head(all.keys, static_cast<size_t>(run.first) + r, h / groups, kv_heads)) -
            dot(asked, head(kept.keys, r, h / groups, kv_heads));
        result.score_max_abs = std::max(result.score_max_abs, site.scale * std::abs(error));
      }
  }
}

}  // namespace kvlab
