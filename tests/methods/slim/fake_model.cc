#include "tests/methods/slim/fake_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "core/types.h"
#include "kernels/cpu_engine.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

Rope rope_of(const FakeConfig& config) {
  if (config.rope == Rope::Style::none) return {};
  Rope rope{.style = config.rope,
            .rotary_dim = config.rotary_dim > 0 ? config.rotary_dim : config.head_dim};
  for (int c = 0; c < rope.rotary_dim / 2; ++c)
    rope.inv_freq.push_back(std::pow(100.0, -2.0 * c / rope.rotary_dim));
  return rope;
}

Layer layer_of(const FakeConfig& config, int block) {
  Layer layer{.kind = config.kind,
              .block = block,
              .num_heads = config.heads,
              .num_kv_heads = config.kv_heads,
              .head_dim = config.head_dim,
              .value_dim = config.head_dim,
              .scale = 1 / std::sqrt(double(config.head_dim)),
              .softcap = config.softcap,
              .window_left = config.window_left,
              .rope = rope_of(config),
              .key_bias = config.key_bias,
              .value_bias = config.value_bias,
              .learned_sink = config.sink};
  for (int h = 0; config.alibi && h < config.heads; ++h)
    layer.alibi_slopes.push_back(0.25F / static_cast<float>(h + 1));
  return layer;
}

/// Features [head * dim, (head + 1) * dim) of x W^T + b.
std::vector<double> project(const float* x, int64_t width, const std::vector<float>& weight,
                            const std::vector<float>& bias, int64_t head, int64_t dim) {
  std::vector<double> out;
  for (int64_t c = head * dim; c < (head + 1) * dim; ++c) {
    double sum = bias.empty() ? 0.0 : double{bias[at(c)]};
    for (int64_t i = 0; i < width; ++i) sum += double{x[i]} * double{weight[at(c * width + i)]};
    out.push_back(sum);
  }
  return out;
}

void append(std::vector<float>& to, const std::vector<double>& from) {
  for (const double x : from) to.push_back(static_cast<float>(x));
}

}  // namespace

FakeModel::FakeModel(const FakeConfig& config) : config_(config) {
  shape_ = {.architecture = "fake",
            .fingerprint = "fake" + std::to_string(config.seed),
            .width = config.width,
            .vocab_size = config.tokens,
            .max_positions = 1 << 20};
  std::mt19937 random(config.seed);
  const auto normal = [&](int64_t count, double deviation) {
    std::normal_distribution<float> numbers(0.0F, static_cast<float>(deviation));
    std::vector<float> all(at(count));
    std::ranges::generate(all, [&] { return numbers(random); });
    return all;
  };
  const int64_t width = config.width, keys = int64_t{config.kv_heads} * config.head_dim,
                queries = int64_t{config.heads} * config.head_dim;
  const double unit = 1 / std::sqrt(double(config.width));
  for (int l = 0; l < config.layers; ++l) {
    shape_.layers.push_back(layer_of(config, l));
    layers_.push_back({.query = normal(queries * width, unit),
                       .key = normal(keys * width, unit),
                       .value = normal(keys * width, unit),
                       .query_bias = normal(queries, 0.5),
                       .key_bias = normal(config.key_bias ? keys : 0, 1),
                       .value_bias = normal(config.value_bias ? keys : 0, 1),
                       .hidden = normal(config.tokens * width, 1),
                       .sinks = normal(config.sink ? config.heads : 0, 1)});
    if (config.kind == Layer::Kind::cross) layers_.back().hidden = layers_.front().hidden;
  }
}

TensorView FakeModel::weight(std::string_view role, int l) const {
  const FakeLayer& from = layer(l);
  const auto view = [&](const std::vector<float>& numbers, bool is_map) {
    const auto n = std::ssize(numbers), width = int64_t{config_.width};
    if (numbers.empty()) return TensorView{};
    return is_map ? dense_view(numbers.data(), Dtype::f32, {n / width, width})
                  : dense_view(numbers.data(), Dtype::f32, {n});
  };
  if (role == "query") return view(from.query, true);
  if (role == "key") return view(from.key, true);
  if (role == "value") return view(from.value, true);
  if (role == "key_bias") return view(from.key_bias, false);
  if (role == "value_bias") return view(from.value_bias, false);
  return {};
}

void FakeModel::visit(std::span<const int32_t> tokens,
                      const std::function<void(const Tap&)>& tap) const {
  for (int l = 0; l < config_.layers; ++l) {
    std::vector<float> rows;
    for (const int32_t t : tokens) {
      const float* const row = layer(l).hidden.data() + int64_t{t} * config_.width;
      rows.insert(rows.end(), row, row + config_.width);
    }
    tap({.layer = l,
         .hidden = dense_view(rows.data(), Dtype::f32, {std::ssize(tokens), config_.width})});
  }
}

std::vector<double> FakeModel::query(int l, int head, int64_t t) const {
  return project(layer(l).hidden.data() + t * config_.width, config_.width, layer(l).query,
                 layer(l).query_bias, head, config_.head_dim);
}
std::vector<double> FakeModel::key(int l, int head, int64_t t) const {
  return project(layer(l).hidden.data() + t * config_.width, config_.width, layer(l).key,
                 layer(l).key_bias, head, config_.head_dim);
}
std::vector<double> FakeModel::value(int l, int head, int64_t t) const {
  return project(layer(l).hidden.data() + t * config_.width, config_.width, layer(l).value,
                 layer(l).value_bias, head, config_.head_dim);
}

void turn(const Rope& rope, double position, std::vector<double>& x) {
  const int pairs = rope ? rope.rotary_dim / 2 : 0;
  for (int c = 0; c < pairs; ++c) {
    const bool halves = rope.style == Rope::Style::half_split;
    double &a = x[at(halves ? c : 2 * c)], &b = x[at(halves ? c + pairs : 2 * c + 1)];
    const double angle = position * rope.inv_freq[at(c)];
    const double u = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = u;
  }
}

Artifact prepare_slim(FakeModel& model, const Json& params, int64_t calibration) {
  Registry registry;
  register_all(registry);
  const Json complete = registry.method_schema("slim").complete(params, "slim");
  std::vector<int32_t> tokens(at(calibration));
  std::iota(tokens.begin(), tokens.end(), 0);
  return registry.method("slim").prepare({.model = &model, .params = &complete, .tokens = tokens});
}

SlimCache::SlimCache(FakeModel& of, const Artifact& artifact, const Json& others, Dtype run_dtype,
                     Where where)
    : model(of) {
  register_all(registry);
  const Scratch scratch;
  artifact.save(scratch / "slim.safetensors");
  Json stages =
      Json::array({{{"name", "slim"}, {"artifact", (scratch / "slim.safetensors").string()}}});
  for (const Json& other : others) stages.push_back(other);
  const Json method = {{"name", "compose"}, {"params", {{"stages", stages}}}};
  where.engine = make_cpu_engine();
  where.run_dtype = run_dtype;
  cache = std::make_unique<Cache>(
      model.shape(),
      compose(parse_methods(stages.size() > 1 ? method : stages[0], registry), model.shape(),
              registry, &model, run_dtype),
      registry, where);
}

void SlimCache::pass(SeqId sequence, Range positions, ReadPolicy read, int64_t token_offset) {
  const FakeConfig& c = model.config();
  const int64_t n = positions.size(), d = c.head_dim;
  const std::vector<SeqId> sequences{sequence};
  const std::vector<int32_t> indptr{0, static_cast<int32_t>(n)};
  std::vector<int32_t> where(at(n)), ids(at(n));
  std::iota(where.begin(), where.end(), static_cast<int32_t>(positions.first));
  std::iota(ids.begin(), ids.end(), static_cast<int32_t>(positions.first + token_offset));
  const RowMap rows{sequences, indptr, where};
  cache->begin_chunk({.rows = rows, .token_ids = ids, .read = read});
  out.resize(model.shape().layers.size());
  for (int l = 0; l < c.layers; ++l) {
    const Rope& rope = model.shape().layers[at(l)].rope;
    std::vector<float> hidden, keys, turned, values, queries;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t t = ids[at(i)];
      const float* const row = model.layer(l).hidden.data() + t * c.width;
      hidden.insert(hidden.end(), row, row + c.width);
      for (int h = 0; h < c.kv_heads; ++h) {
        std::vector<double> key = model.key(l, h, t);
        append(keys, key);
        turn(rope, static_cast<double>(where[at(i)]), key);
        append(turned, key);
        append(values, model.value(l, h, t));
      }
      for (int h = 0; h < c.heads; ++h) append(queries, model.query(l, h, t));
    }
    const Needs needs = cache->needs(l, n);
    const auto given = [&](Needs what, const std::vector<float>& from,
                           std::initializer_list<int64_t> sizes) {
      return has(needs, what) ? dense_view(from.data(), Dtype::f32, sizes) : TensorView{};
    };
    cache->append({.layer = l,
                   .rows = rows,
                   .hidden = given(Needs::hidden, hidden, {n, c.width}),
                   .keys_pre_rope = given(Needs::keys_pre_rope, keys, {n, c.kv_heads, d}),
                   .keys = given(Needs::keys, turned, {n, c.kv_heads, d}),
                   .values = given(Needs::values, values, {n, c.kv_heads, d})});
    std::vector<float> result(at(n * c.heads * d));
    cache->attend({.layer = l,
                   .rows = rows,
                   .queries = dense_view(queries.data(), Dtype::f32, {n, c.heads, d}),
                   .out = dense_view(result.data(), Dtype::f32, {n, c.heads, d}),
                   .sinks = model.layer(l).sinks});
    std::vector<float>& mine = out[at(l)];
    mine.resize(std::max(mine.size(), at(positions.last * c.heads * d)));
    std::ranges::copy(result, mine.begin() + positions.first * c.heads * d);
  }
  cache->end_chunk(n == 1 ? ChunkEnd::step : ChunkEnd::prompt);
}

std::vector<std::vector<float>> run_slim(FakeModel& model, const Json& params,
                                         const std::vector<int64_t>& lengths) {
  SlimCache slim(model, params);
  const SeqId sequence = slim.cache->add_sequence();
  int64_t seen = 0;
  for (const int64_t length : lengths) {
    slim.pass(sequence, {seen, seen + length});
    seen += length;
  }
  return slim.out;
}

double relative_error(const std::vector<std::vector<float>>& have,
                      const std::vector<std::vector<double>>& want) {
  double apart = 0, size = 0;
  for (size_t l = 0; l < want.size(); ++l)
    for (size_t i = 0; i < want[l].size(); ++i) {
      apart += std::pow(i < have[l].size() ? have[l][i] - want[l][i] : HUGE_VAL, 2);
      size += std::pow(want[l][i], 2);
    }
  return std::sqrt(apart / size);
}

}  // namespace kvlab::test
