#include "tests/kernels/scene.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <sstream>

namespace kvlab::test {
namespace {

Layer layer_of(const SceneOptions& o) {
  Layer shape{.num_heads = o.num_heads,
              .num_kv_heads = o.num_kv_heads,
              .head_dim = o.head_dim,
              .value_dim = o.value_dim == 0 ? o.head_dim : o.value_dim,
              .scale = 1.0 / std::sqrt(o.head_dim),
              .softcap = o.softcap,
              .window_left = o.window_left,
              .rope = o.rope,
              .learned_sink = o.sinks,
              .distance_bias = o.distance_bias};
  if (o.alibi)
    for (int h = 0; h < o.num_heads; ++h)
      shape.alibi_slopes.push_back(static_cast<float>(std::exp2(-8.0 * (h + 1) / o.num_heads)));
  return shape;
}

}  // namespace

Scene::Scene(Engine& engine, const SceneOptions& scene) : options(scene), shape(layer_of(scene)) {
  if (options.value_codec.empty()) {
    options.value_codec = options.key_codec;
    options.value_params = options.key_params;
  }
  const int units = shape.num_kv_heads / options.lists_per_sequence;
  pages = std::make_unique<Pages>(
      std::vector<StreamLayout>{stream("key", units, shape.head_dim, options.key_codec,
                                       options.key_params, options.rotate_hadamard),
                                stream("value", units, shape.value_dim, options.value_codec,
                                       options.value_params, options.rotate_hadamard)},
      static_cast<int>(options.lengths.size()) * options.lists_per_sequence, options.pages);
  pages->view.lists_per_sequence = options.lists_per_sequence;
  layout.key = {.map = Operand::Map::own, .stream = "key", .rotate = options.keys_pre_rope};
  layout.values = {{.map = Operand::Map::own, .stream = "value"}};
  fill(engine);
  segments = {{.rows = pages->view, .layout = &layout}};
}

void Scene::fill(Engine& engine) {
  std::mt19937_64 random(options.seed);
  indptr_ = {0};
  for (size_t s = 0; s < options.lengths.size(); ++s) {
    const int64_t n = options.lengths[s];
    sequences_.push_back(static_cast<SeqId>(s));
    for (int l = 0; l < options.lists_per_sequence; ++l) {
      const int list = static_cast<int>(s) * options.lists_per_sequence + l;
      pages->resize(list, 0, n);
      const int units = shape.num_kv_heads / options.lists_per_sequence;
      for (int i = 0; i < 2; ++i) {
        const int width = i == 0 ? shape.head_dim : shape.value_dim;
        std::vector<std::vector<float>> rows;
        for (int64_t t = 0; t < n; ++t) {
          rows.push_back(normal(random, int64_t{units} * width));
          for (float& x : rows.back()) x *= i == 0 ? options.key_size : 1.0f;
        }
        pages->write(engine, i, list, 0, rows);
      }
      if (pages->layout.position >= 0)
        for (int64_t t = 0; t < n; ++t)
          pages->set_int(list, pages->layout.position, t, static_cast<int32_t>(t));
      if (pages->layout.until >= 0)
        for (int64_t t = 0; t < n; ++t) pages->set_int(list, pages->layout.until, t, kForever);
    }
    for (int q = 0; q < options.query_tokens; ++q)
      positions_.push_back(static_cast<int32_t>(n - options.query_tokens + q));
    indptr_.push_back(static_cast<int32_t>(positions_.size()));
  }
  queries =
      normal(random, static_cast<int64_t>(positions_.size()) * shape.num_heads * shape.head_dim,
             options.query_dtype);
  if (options.sinks) sinks = normal(random, shape.num_heads);
  distance_bias = normal(random, int64_t{shape.num_heads} * shape.distance_bias);
}

AttendCall Scene::call() const {
  AttendCall call{.shape = &shape, .rows = rows(), .sinks = sinks, .segments = segments};
  const int64_t r = call.rows.size();
  if (shape.distance_bias > 0)
    call.distance_bias =
        dense_view(distance_bias.data(), Dtype::f32, {shape.num_heads, shape.distance_bias});
  if (options.query_dtype == Dtype::bf16) {
    query_bytes_.resize(queries.size() * 2);
    for (size_t i = 0; i < queries.size(); ++i) {
      const uint16_t bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(queries[i]) >> 16);
      std::memcpy(query_bytes_.data() + 2 * i, &bits, 2);
    }
    call.queries =
        dense_view(query_bytes_.data(), Dtype::bf16, {r, shape.num_heads, shape.head_dim});
  } else {
    call.queries = dense_view(queries.data(), Dtype::f32, {r, shape.num_heads, shape.head_dim});
  }
  return call;
}

Answer Scene::run(Engine& engine, const RunOptions& run) {
  AttendCall c = call();
  const int64_t r = c.rows.size();
  Answer answer;
  const size_t rows = static_cast<size_t>(r * shape.num_heads);
  answer.out.assign(rows * static_cast<size_t>(shape.value_dim),
                    std::numeric_limits<float>::quiet_NaN());
  answer.lse.assign(rows, std::numeric_limits<float>::quiet_NaN());
  c.out = dense_view(answer.out.data(), Dtype::f32, {r, shape.num_heads, shape.value_dim});
  c.lse_ln = dense_view(answer.lse.data(), Dtype::f32, {r, shape.num_heads});
  c.split = run.split;
  c.level = run.level;
  c.plan = run.plan;
  engine.attend(c, &answer.ran);
  engine.sync();
  return answer;
}

std::vector<double> Scene::query(int64_t row, int head) const {
  const size_t first = static_cast<size_t>((row * shape.num_heads + head) * shape.head_dim);
  std::vector<double> q(queries.begin() + static_cast<int64_t>(first),
                        queries.begin() + static_cast<int64_t>(first) + shape.head_dim);
  if (!shape.rope) return q;
  return oracle::rotate(q, positions_[static_cast<size_t>(row)], shape.rope.inv_freq,
                        shape.rope.style == Rope::Style::interleaved, shape.rope.attention_factor);
}

std::vector<oracle::Row> oracle_rows(const Pages& pages, const Layer& shape, int sequence,
                                     int kv_head, bool keys_pre_rope) {
  const PartView& view = pages.view;
  const int list =
      sequence * view.lists_per_sequence + kv_head * view.lists_per_sequence / shape.num_kv_heads;
  const int unit = kv_head % (shape.num_kv_heads / view.lists_per_sequence);
  const ListView& l = view.lists[static_cast<size_t>(list)];
  std::vector<oracle::Row> rows;
  for (int64_t slot = l.first; slot < l.last; ++slot) {
    if (l.page(slot / pages.layout.page_tokens) == nullptr) continue;
    oracle::Row row{.key = pages.stored(0, list, unit, slot),
                    .value = pages.stored(1, list, unit, slot),
                    .position = pages.position(list, slot)};
    row.until = pages.until(list, slot);
    const int64_t last = (slot / view.from_tile + 1) * view.from_tile - 1;
    if (view.from_lag == PartView::kNoFrom)
      row.from = std::numeric_limits<int32_t>::min();
    else if (slot < l.settled)
      row.from = row.position;
    else
      row.from = last < l.last ? pages.position(list, last) + view.from_lag : kForever;
    if (keys_pre_rope)
      row.key =
          oracle::rotate(row.key, row.position, shape.rope.inv_freq,
                         shape.rope.style == Rope::Style::interleaved, shape.rope.attention_factor);
    rows.push_back(std::move(row));
  }
  return rows;
}

oracle::Head Scene::head(int64_t row, int head) const {
  const auto h = static_cast<size_t>(head);
  oracle::Head made{.scale = shape.scale,
                    .softcap = shape.softcap,
                    .slope = shape.alibi_slopes.empty() ? 0.0 : shape.alibi_slopes[h],
                    .window_left = shape.window_left};
  if (!sinks.empty()) made.sink = sinks[h];
  const auto first = distance_bias.begin() + head * shape.distance_bias;
  made.distance_bias.assign(first, first + shape.distance_bias);
  if (!seen_from.empty()) made.seen_from = seen_from[static_cast<size_t>(row)];
  return made;
}

Scene::Expected Scene::expected() const {
  Expected expected;
  expected.out.resize(positions_.size() * static_cast<size_t>(shape.num_heads * shape.value_dim));
  expected.lse.resize(positions_.size() * static_cast<size_t>(shape.num_heads));
  const int group = shape.num_heads / shape.num_kv_heads;
  for (size_t s = 0; s < sequences_.size(); ++s)
    for (int kv = 0; kv < shape.num_kv_heads; ++kv) {
      const std::vector<oracle::Row> rows =
          oracle_rows(*pages, shape, static_cast<int>(s), kv, options.keys_pre_rope);
      for (int64_t r = indptr_[s]; r < indptr_[s + 1]; ++r)
        for (int g = 0; g < group; ++g) {
          const int head = kv * group + g;
          const std::vector<double> q = query(r, head);
          const oracle::Answer a = oracle::attend(q, positions_[static_cast<size_t>(r)], rows,
                                                  this->head(r, head), shape.value_dim);
          const size_t cell = static_cast<size_t>(r * shape.num_heads + head);
          std::copy(a.out.begin(), a.out.end(),
                    expected.out.begin() + static_cast<int64_t>(cell) * shape.value_dim);
          expected.lse[cell] = a.lse;
          expected.largest_logit = std::max(expected.largest_logit, a.largest_logit);
          for (const oracle::Row& row : rows) {
            double mass = 0;
            for (size_t c = 0; c < q.size(); ++c) mass += std::abs(q[c] * row.key[c]);
            expected.key_mass = std::max(expected.key_mass, mass * shape.scale);
            for (const double v : row.value)
              if (std::isfinite(v))
                expected.largest_value = std::max(expected.largest_value, std::abs(v));
          }
        }
    }
  return expected;
}

Bound Bound::of(const Scene::Expected& expected, int head_dim, int64_t rows) {
  const double u = std::ldexp(1.0, -24);
  const double logit = u * ((head_dim + 16) * expected.key_mass + 8 * expected.largest_logit + 8);
  Bound bound;
  bound.lse = logit + u * (8 + static_cast<double>(rows)) + 2 * u * expected.largest_logit;
  bound.out = expected.largest_value * (2 * logit + u * (16 + 2 * static_cast<double>(rows)));
  return bound;
}

void expect_close(const Answer& answer, const Scene::Expected& expected, const Bound& bound,
                  const std::string& what) {
  ASSERT_EQ(answer.out.size(), expected.out.size()) << what;
  double worst = 0, worst_lse = 0;
  size_t at = 0;
  for (size_t i = 0; i < answer.out.size(); ++i) {
    const double error = std::abs(answer.out[i] - expected.out[i]);
    if (!(error <= worst)) worst = error, at = i;
    if (std::isnan(error)) break;
  }
  for (size_t i = 0; i < answer.lse.size(); ++i) {
    if (answer.lse[i] == expected.lse[i]) continue;  // both -infinity
    const double error = std::abs(answer.lse[i] - expected.lse[i]);
    if (!(error <= worst_lse)) worst_lse = error;
    if (std::isnan(error)) break;
  }
  EXPECT_LE(worst, bound.out) << what << ": out[" << at << "] is " << answer.out[at] << ", not "
                              << expected.out[at];
  EXPECT_LE(worst_lse, bound.lse) << what;
}

std::string describe(const SceneOptions& o) {
  std::ostringstream text;
  text << o.key_codec << o.key_params << "/" << o.value_codec << " heads " << o.num_heads << "/"
       << o.num_kv_heads << " of " << o.head_dim << ", lengths";
  for (const int64_t n : o.lengths) text << " " << n;
  text << ", " << o.query_tokens << " queries";
  if (o.softcap > 0) text << ", softcap " << o.softcap;
  if (o.window_left >= 0) text << ", window " << o.window_left;
  if (o.alibi) text << ", alibi";
  if (o.distance_bias > 0) text << ", distance bias " << o.distance_bias;
  if (o.sinks) text << ", sinks";
  if (o.rotate_hadamard) text << ", hadamard";
  if (o.rope) text << ", rope";
  text << ", seed " << o.seed;
  return text.str();
}

}  // namespace kvlab::test
