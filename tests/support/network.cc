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

void reverse_heads(const NetworkConfig& config, std::vector<float>& queries) {
  const int64_t d = config.head_dim, group = config.heads / config.kv_heads;
  for (size_t first = 0; first < queries.size(); first += at(group * d))
    for (int64_t a = 0, b = group - 1; a < b; ++a, --b)
      std::swap_ranges(queries.begin() + static_cast<int64_t>(first) + a * d,
                       queries.begin() + static_cast<int64_t>(first) + (a + 1) * d,
                       queries.begin() + static_cast<int64_t>(first) + b * d);
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
  std::mt19937 random(config.seed), other(config.seed + 1000);
  std::normal_distribution<float> normal;
  const int64_t differs = config.differs_from < 0 ? config.tokens : config.differs_from;
  const auto fill = [&](std::vector<float>& rows, int64_t width) {
    rows.resize(at(config.tokens * width));
    std::ranges::generate(rows, [&] { return normal(random); });
    std::generate(rows.begin() + differs * width, rows.end(), [&] { return normal(other); });
  };
  const int64_t d = config.head_dim;
  for (Rows& rows : layers_) {
    fill(rows.hidden, config.width);
    fill(rows.keys, config.kv_heads * d);
    fill(rows.values, int64_t{config.kv_heads} * config.value_dim);
    fill(rows.queries, config.heads * d);
    if (config.reverses_heads) reverse_heads(config, rows.queries);
    rows.keys_rotated = rows.keys;
    for (int64_t i = 0; i < config.tokens * config.kv_heads; ++i)
      rotate(shape_.layers[0].rope, i / config.kv_heads, rows.keys_rotated.data() + i * d);
  }
  for (int64_t i = 0; i < config.tokens; ++i)
    ids_.push_back(static_cast<int32_t>((i < differs ? random() : other()) % 50));
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
                   Outputs& out) const {
  test::pass(cache, {{this, sequence, positions, &out}}, read, end);
}

void pass(Cache& cache, const std::vector<Feed>& feeds, ReadPolicy read, ChunkEnd end) {
  std::vector<SeqId> sequences;
  std::vector<int32_t> indptr{0}, positions, ids;
  for (const Feed& feed : feeds) {
    sequences.push_back(feed.sequence);
    for (int64_t p = feed.positions.first; p < feed.positions.last; ++p) {
      positions.push_back(static_cast<int32_t>(p));
      ids.push_back(feed.network->id(p));
    }
    indptr.push_back(static_cast<int32_t>(positions.size()));
  }
  const RowMap rows{sequences, indptr, positions};
  const ModelShape& shape = feeds[0].network->shape();
  const int64_t n = rows.size();
  cache.begin_chunk({.rows = rows, .token_ids = ids, .read = read});
  for (int l = 0; l < std::ssize(shape.layers); ++l) {
    const Layer& layer = shape.layers[at(l)];
    const int64_t h = layer.num_heads, g = layer.num_kv_heads, d = layer.head_dim,
                  dv = layer.value_dim;
    const auto packed = [&](std::vector<float> Network::Rows::* what, int64_t width) {
      std::vector<float> all;
      for (const Feed& feed : feeds) {
        const float* from = (feed.network->rows(l).*what).data();
        all.insert(all.end(), from + feed.positions.first * width,
                   from + feed.positions.last * width);
      }
      return all;
    };
    const Needs needs = cache.needs(l, n);
    const auto hidden = packed(&Network::Rows::hidden, shape.width),
               keys = packed(&Network::Rows::keys, g * d),
               rotated = packed(&Network::Rows::keys_rotated, g * d),
               values = packed(&Network::Rows::values, g * dv),
               queries = packed(&Network::Rows::queries, h * d);
    const auto view = [&](Needs what, const std::vector<float>& from,
                          std::initializer_list<int64_t> sizes) {
      return has(needs, what) ? dense_view(from.data(), Dtype::f32, sizes) : TensorView{};
    };
    cache.append(
        {.layer = l,
         .rows = rows,
         .hidden = view(Needs::hidden, hidden, {n, shape.width}),
         .keys_pre_rope = view(Needs::keys_pre_rope, keys, {n, g, d}),
         .keys = view(Needs::keys, rotated, {n, g, d}),
         .values = view(Needs::values, values, {n, g, dv}),
         .queries = view(Needs::queries, queries, {n, h, d}),
         .token_ids = has(needs, Needs::token_ids) ? std::span(ids) : std::span<int32_t>{}});
    std::vector<float> out(at(n * h * dv));
    cache.attend({.layer = l,
                  .rows = rows,
                  .queries = dense_view(queries.data(), Dtype::f32, {n, h, d}),
                  .out = dense_view(out.data(), Dtype::f32, {n, h, dv})});
    const float* from = out.data();
    for (const Feed& feed : feeds) {
      feed.out->resize(shape.layers.size());
      std::vector<float>& to = (*feed.out)[at(l)];
      to.resize(at(feed.network->tokens() * h * dv));
      const int64_t size = feed.positions.size() * h * dv;
      std::copy_n(from, size, to.begin() + feed.positions.first * h * dv);
      from += size;
    }
  }
  cache.end_chunk(end);
}

std::shared_ptr<Engine> make_engine(int threads) { return make_cpu_engine({.threads = threads}); }

std::unique_ptr<Cache> make_cache(const Network& network, const Registry& registry,
                                  const Json& method, SplitPolicy split, int threads) {
  return std::make_unique<Cache>(
      network.shape(),
      compose(parse_methods(method, registry), network.shape(), registry, nullptr, Dtype::f32),
      registry, Where{.engine = make_engine(threads), .split = split});
}

Outputs run(const Network& network, const Registry& registry, const Json& method,
            const std::vector<int64_t>& lengths, ReadPolicy read) {
  const std::unique_ptr<Cache> cache = make_cache(network, registry, method);
  const SeqId sequence = cache->add_sequence();
  Outputs out;
  int64_t seen = 0;
  for (const int64_t length : lengths) {
    network.pass(*cache, sequence, {seen, seen + length}, read,
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

double distance(const Outputs& have, const std::vector<std::vector<double>>& want) {
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
