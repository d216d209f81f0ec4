#include "tests/support/network.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "core/error.h"
#include "core/types.h"
#include "kernels/cpu_engine.h"

namespace kvlab::test {
namespace {

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

/// Equal for networks of one shape and one set of weights.
std::string fingerprint_of(const NetworkConfig& config) {
  std::string text = "random";
  for (const int64_t number :
       {int64_t{config.layers}, int64_t{config.heads}, int64_t{config.kv_heads},
        int64_t{config.head_dim}, int64_t{config.value_dim}, int64_t{config.width},
        config.window_left, static_cast<int64_t>(config.rope), int64_t{config.key_bias},
        int64_t{config.value_bias}, int64_t{config.seed}})
    text += "," + std::to_string(number);
  return text;
}

ModelShape shape_of(const NetworkConfig& config) {
  ModelShape shape{.architecture = "random",
                   .fingerprint = fingerprint_of(config),
                   .width = config.width,
                   .vocab_size = 50,
                   .max_positions = 1 << 20};
  for (int l = 0; l < config.layers; ++l)
    shape.layers.push_back({.block = l,
                            .num_heads = config.heads,
                            .num_kv_heads = config.kv_heads,
                            .head_dim = config.head_dim,
                            .value_dim = config.value_dim,
                            .scale = 1 / std::sqrt(double(config.head_dim)),
                            .window_left = config.window_left,
                            .rope = rope_of(config),
                            .key_bias = config.key_bias,
                            .value_bias = config.value_bias});
  return shape;
}

/// Standard normal numbers from a seed.
class Normals {
 public:
  explicit Normals(unsigned seed) : random_(seed) {}
  float operator()() { return normal_(random_); }

 private:
  std::mt19937 random_;
  std::normal_distribution<float> normal_{};
};

/// [out, in], rows of length 1, orthogonal to the rows of their block of `in`: what is computed
/// from one projection by way of another is off by rounding alone, not by rounding times a
/// condition.
std::vector<float> random_weight(int64_t out, int64_t in, Normals& draw) {
  std::vector<float> weight(at(out * in));
  std::ranges::generate(weight, std::ref(draw));
  for (int64_t r = 0; r < out; ++r) {
    const auto row = weight.begin() + r * in;
    for (int64_t before = r / in * in; before < r; ++before) {
      const auto other = weight.begin() + before * in;
      const float along = std::inner_product(row, row + in, other, 0.0F);
      for (int64_t i = 0; i < in; ++i) row[i] -= along * other[i];
    }
    const float length = std::sqrt(std::inner_product(row, row + in, row, 0.0F));
    std::for_each(row, row + in, [&](float& x) { x /= length; });
  }
  return weight;
}

Network::Weights random_weights(const NetworkConfig& config, Normals& draw) {
  const int64_t heads = config.heads, kv_heads = config.kv_heads, d = config.head_dim,
                dv = config.value_dim, width = config.width;
  Network::Weights weights{.query = random_weight(heads * d, width, draw),
                           .key = random_weight(kv_heads * d, width, draw),
                           .value = random_weight(kv_heads * dv, width, draw),
                           .output = random_weight(width, heads * dv, draw)};
  const auto bias = [&](bool wanted, std::vector<float>& to, int64_t size) {
    if (wanted) to.resize(at(size));
    std::ranges::generate(to, std::ref(draw));
  };
  bias(config.key_bias, weights.key_bias, kv_heads * d);
  bias(config.value_bias, weights.value_bias, kv_heads * dv);
  return weights;
}

/// y = W x + b of each row of x.
std::vector<float> projected(const std::vector<float>& rows, int64_t width,
                             const std::vector<float>& weight, const std::vector<float>& bias) {
  std::vector<float> all;
  for (auto row = rows.begin(); row != rows.end(); row += width)
    for (auto w = weight.begin(); w != weight.end(); w += width) {
      const auto feature = (w - weight.begin()) / width;
      all.push_back(
          std::inner_product(row, row + width, w, bias.empty() ? 0.0F : bias[at(feature)]));
    }
  return all;
}

class Access final : public ModelAccess {
 public:
  explicit Access(const Network& network) : network_(network) {}
  const ModelShape& shape() const override { return network_.shape(); }

  TensorView weight(std::string_view role, int layer) const override {
    if (role == "embedding" || role == "head" || role == "query_bias" || role == "output_bias")
      return {};
    const Network::Weights& all = network_.weights(layer);
    if (role == "query") return matrix(all.query, shape().width);
    if (role == "key") return matrix(all.key, shape().width);
    if (role == "value") return matrix(all.value, shape().width);
    if (role == "output") return matrix(all.output, std::ssize(all.output) / shape().width);
    if (role == "key_bias") return vector(all.key_bias);
    if (role == "value_bias") return vector(all.value_bias);
    fail("E_UNKNOWN", "random: weight role `", role, "`");
  }

  void visit(std::span<const int32_t> tokens,
             const std::function<void(const Tap&)>& tap) const override {
    const int64_t n = std::ssize(tokens);
    KVLAB_REQUIRE(n <= network_.tokens(), "E_SHAPE", "random: has activations of ",
                  network_.tokens(), " tokens, not of ", n);
    for (int l = 0; l < std::ssize(shape().layers); ++l) {
      const Layer& layer = shape().layers[at(l)];
      const Network::Rows& rows = network_.rows(l);
      const int64_t heads = layer.num_kv_heads, d = layer.head_dim;
      tap({.layer = l,
           .hidden = dense_view(rows.hidden.data(), Dtype::f32, {n, shape().width}),
           .keys_pre_rope = dense_view(rows.keys.data(), Dtype::f32, {n, heads, d}),
           .values = dense_view(rows.values.data(), Dtype::f32, {n, heads, layer.value_dim}),
           .queries = dense_view(rows.queries.data(), Dtype::f32, {n, layer.num_heads, d})});
    }
  }

  double loss(std::span<const int32_t>, const Attention&) override {
    fail("E_UNSUPPORTED", "random: this network has no head, so no loss");
  }

 private:
  static TensorView matrix(const std::vector<float>& weight, int64_t in) {
    return dense_view(weight.data(), Dtype::f32, {std::ssize(weight) / in, in});
  }
  static TensorView vector(const std::vector<float>& bias) {
    return bias.empty() ? TensorView{} : dense_view(bias.data(), Dtype::f32, {std::ssize(bias)});
  }
  const Network& network_;
};

}  // namespace

Network::Network(const NetworkConfig& config)
    : config_(config), shape_(shape_of(config)), layers_(at(config.layers)) {
  Normals weight(config.seed), hidden(config.text), other(config.text + 1000);
  for (int l = 0; l < config.layers; ++l) weights_.push_back(random_weights(config, weight));
  const int64_t differs = config.differs_from < 0 ? config.tokens : config.differs_from;
  const int64_t width = config.width, d = config.head_dim;
  for (size_t l = 0; l < layers_.size(); ++l) {
    Rows& rows = layers_[l];
    rows.hidden.resize(at(config.tokens * width));
    std::ranges::generate(rows.hidden, std::ref(hidden));
    std::generate(rows.hidden.begin() + differs * width, rows.hidden.end(), std::ref(other));
    rows.keys = projected(rows.hidden, width, weights_[l].key, weights_[l].key_bias);
    rows.values = projected(rows.hidden, width, weights_[l].value, weights_[l].value_bias);
    rows.queries = projected(rows.hidden, width, weights_[l].query, {});
    if (config.reverses_heads) reverse_heads(config, rows.queries);
    rows.keys_rotated = rows.keys;
    for (int64_t i = 0; i < config.tokens * config.kv_heads; ++i)
      rotate(shape_.layers[0].rope, i / config.kv_heads, rows.keys_rotated.data() + i * d);
  }
  std::mt19937 ids(config.text), other_ids(config.text + 1000);
  for (int64_t i = 0; i < config.tokens; ++i)
    ids_.push_back(static_cast<int32_t>((i < differs ? ids() : other_ids()) % 50));
}

std::unique_ptr<ModelAccess> Network::access() const { return std::make_unique<Access>(*this); }

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

Artifact prepare(const Network& network, const Registry& registry, const MethodSpec& spec) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < network.tokens(); ++i) tokens.push_back(network.id(i));
  const std::unique_ptr<ModelAccess> access = network.access();
  const Artifact made =
      registry.method(spec.name).prepare({.model = access.get(),
                                          .params = &spec.params,
                                          .tokens = tokens,
                                          .progress = [](double, const std::string&) {}});
  Json header = made.header();
  header["method"] = spec.name;
  header["method_params"] = spec.params;
  header["model"] = network.shape().fingerprint;
  return {std::move(header), made.tensors()};
}

std::shared_ptr<Engine> make_engine(int threads) { return make_cpu_engine({.threads = threads}); }

std::unique_ptr<Cache> make_cache(const Network& network, const Registry& registry,
                                  const Json& method, SplitPolicy split, int threads) {
  return std::make_unique<Cache>(network.shape(),
                                 compose(parse_methods(method, registry), network.shape(), registry,
                                         network.access().get(), Dtype::f32),
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
