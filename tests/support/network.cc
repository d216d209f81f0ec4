#include "tests/support/network.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "core/compose.h"
#include "kernels/cpu_engine.h"

namespace kvlab::test {
namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

Rope rope_of(const NetworkConfig& config) {
  if (config.rope == Rope::Style::none) return {};
  Rope rope{.style = config.rope, .rotary_dim = config.head_dim};
  for (int c = 0; c < config.head_dim / 2; ++c)
    rope.inv_freq.push_back(std::pow(10000.0, -2.0 * c / config.head_dim));
  return rope;
}

/// x turned by RoPE at a position.
template <class T>
void rotate(const Rope& rope, int64_t position, T* x) {
  const bool halves = rope.style == Rope::Style::half_split;
  const int pairs = rope ? rope.rotary_dim / 2 : 0;
  for (int c = 0; c < pairs; ++c) {
    T& a = x[halves ? c : 2 * c];
    T& b = x[halves ? c + pairs : 2 * c + 1];
    const double angle = static_cast<double>(position) * rope.inv_freq[at(c)];
    const double u = a, v = b;
    a = static_cast<T>(u * std::cos(angle) - v * std::sin(angle));
    b = static_cast<T>(u * std::sin(angle) + v * std::cos(angle));
  }
}

}  // namespace

Network::Network(const NetworkConfig& config) : config_(config), layers_(at(config.layers)) {
  shape_.architecture = "random";
  shape_.fingerprint = "random" + std::to_string(config.seed);
  shape_.width = config.width;
  shape_.vocab_size = 50;
  shape_.max_positions = 1 << 20;
  shape_.layers.assign(at(config.layers), {.num_heads = config.heads,
                                           .num_kv_heads = config.kv_heads,
                                           .head_dim = config.head_dim,
                                           .value_dim = config.value_dim,
                                           .scale = 1 / std::sqrt(double(config.head_dim)),
                                           .window_left = config.window_left,
                                           .rope = rope_of(config)});
  for (int l = 0; l < config.layers; ++l) shape_.layers[at(l)].block = l;
  std::mt19937 random(config.seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::vector<float>& rows, int64_t width) {
    rows.resize(at(config.tokens * width));
    std::ranges::generate(rows, [&] { return normal(random); });
  };
  const int64_t d = config.head_dim;
  for (Rows& rows : layers_) {
    fill(rows.hidden, config.width);
    fill(rows.keys, config.kv_heads * d);
    fill(rows.values, int64_t{config.kv_heads} * config.value_dim);
    fill(rows.queries, config.heads * d);
    rows.keys_rotated = rows.keys;
    for (int64_t i = 0; i < config.tokens * config.kv_heads; ++i)
      rotate(shape_.layers[0].rope, i / config.kv_heads, rows.keys_rotated.data() + i * d);
  }
  for (int64_t i = 0; i < config.tokens; ++i) ids_.push_back(static_cast<int32_t>(random() % 50));
}

const float* Network::hidden(int layer, int64_t position) const {
  return layers_[at(layer)].hidden.data() + position * config_.width;
}
const float* Network::keys(int layer, int64_t position) const {
  return layers_[at(layer)].keys.data() + position * config_.kv_heads * config_.head_dim;
}
const float* Network::values(int layer, int64_t position) const {
  return layers_[at(layer)].values.data() + position * config_.kv_heads * config_.value_dim;
}
const float* Network::queries(int layer, int64_t position) const {
  return layers_[at(layer)].queries.data() + position * config_.heads * config_.head_dim;
}

void Network::pass(Cache& cache, SeqId sequence, Range positions, ReadPolicy read, ChunkEnd end,
                   std::vector<std::vector<float>>& out) const {
  const int64_t n = positions.size(), first = positions.first;
  std::vector<int32_t> numbers(at(n));
  std::iota(numbers.begin(), numbers.end(), static_cast<int32_t>(first));
  const int32_t indptr[] = {0, static_cast<int32_t>(n)};
  const RowMap rows{{&sequence, 1}, indptr, numbers};
  const std::span ids = std::span(ids_).subspan(at(first), at(n));
  const int64_t h = config_.heads, g = config_.kv_heads, d = config_.head_dim,
                dv = config_.value_dim;
  cache.begin_chunk({.rows = rows, .token_ids = ids, .read = read});
  out.resize(at(config_.layers));
  for (int l = 0; l < config_.layers; ++l) {
    const Needs needs = cache.needs(l, n);
    const auto view = [&](Needs what, const std::vector<float>& from,
                          std::initializer_list<int64_t> sizes) {
      if (!has(needs, what)) return TensorView{};
      const int64_t width = std::ssize(from) / config_.tokens;
      return dense_view(from.data() + first * width, Dtype::f32, sizes);
    };
    const Rows& mine = layers_[at(l)];
    cache.append({.layer = l,
                  .rows = rows,
                  .hidden = view(Needs::hidden, mine.hidden, {n, config_.width}),
                  .keys_pre_rope = view(Needs::keys_pre_rope, mine.keys, {n, g, d}),
                  .keys = view(Needs::keys, mine.keys_rotated, {n, g, d}),
                  .values = view(Needs::values, mine.values, {n, g, dv}),
                  .queries = view(Needs::queries, mine.queries, {n, h, d}),
                  .token_ids = has(needs, Needs::token_ids) ? ids : std::span<const int32_t>{}});
    out[at(l)].resize(at(config_.tokens * h * dv));
    cache.attend({.layer = l,
                  .rows = rows,
                  .queries = dense_view(queries(l, first), Dtype::f32, {n, h, d}),
                  .out = dense_view(out[at(l)].data() + first * h * dv, Dtype::f32, {n, h, dv})});
  }
  cache.end_chunk(end);
}

std::shared_ptr<Engine> make_engine() { return make_cpu_engine(); }

std::vector<std::vector<float>> run(const Network& network, const Registry& registry,
                                    const Json& method, const std::vector<int64_t>& lengths,
                                    ReadPolicy read) {
  Cache cache(
      network.shape(),
      compose(parse_methods(method, registry), network.shape(), registry, nullptr, Dtype::f32),
      registry, {.engine = make_engine()});
  const SeqId sequence = cache.add_sequence();
  std::vector<std::vector<float>> out;
  int64_t seen = 0;
  for (const int64_t length : lengths) {
    network.pass(cache, sequence, {seen, seen + length}, read,
                 length == 1 ? ChunkEnd::step : ChunkEnd::prompt, out);
    seen += length;
  }
  return out;
}

std::vector<std::vector<double>> defined(const Network& network, const Definition& definition) {
  std::vector<std::vector<double>> out;
  for (int l = 0; l < std::ssize(network.shape().layers); ++l) {
    const Layer& layer = network.shape().layers[at(l)];
    const int64_t d = layer.head_dim, dv = layer.value_dim;
    const auto own = [](const float* rows, int64_t head, int64_t dim) {
      return std::vector<double>(rows + head * dim, rows + (head + 1) * dim);
    };
    std::vector<double>& mine = out.emplace_back(at(network.tokens() * layer.num_heads * dv));
    for (int h = 0; h < layer.num_heads; ++h) {
      const int head = h / (layer.num_heads / layer.num_kv_heads);
      std::vector<std::vector<double>> keys, values;
      for (int64_t j = 0; j < network.tokens(); ++j) {
        keys.push_back(definition.key ? definition.key(l, head, j)
                                      : own(network.keys(l, j), head, d));
        rotate(layer.rope, j, keys.back().data());
        values.push_back(definition.value ? definition.value(l, head, j)
                                          : own(network.values(l, j), head, dv));
      }
      for (int64_t q = 0; q < network.tokens(); ++q) {
        double* to = mine.data() + (q * layer.num_heads + h) * dv;
        double total = 0;
        for (int64_t j = 0; j <= q; ++j) {
          if (layer.window_left >= 0 && j < q - layer.window_left) continue;
          if (definition.reads && !definition.reads(l, head, q, j)) continue;
          std::vector<double> query = own(network.queries(l, q), h, d);
          rotate(layer.rope, definition.seen_from ? definition.seen_from(q, j) : q, query.data());
          const double weight =
              std::exp(layer.scale *
                       std::inner_product(query.begin(), query.end(), keys[at(j)].begin(), 0.0));
          total += weight;
          for (int64_t c = 0; c < dv; ++c) to[c] += weight * values[at(j)][at(c)];
        }
        for (int64_t c = 0; c < dv && total > 0; ++c) to[c] /= total;
      }
    }
  }
  return out;
}

double distance(const std::vector<std::vector<float>>& have,
                const std::vector<std::vector<double>>& want) {
  double most = have.size() == want.size() ? 0 : HUGE_VAL;
  for (size_t l = 0; l < std::min(have.size(), want.size()); ++l) {
    if (have[l].size() != want[l].size()) return HUGE_VAL;
    for (size_t i = 0; i < have[l].size(); ++i) {
      const double apart = std::abs(have[l][i] - want[l][i]);
      most = apart <= most ? most : apart;  // NaN counts as apart
    }
  }
  return most;
}

}  // namespace kvlab::test
