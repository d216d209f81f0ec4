#include "eval/models/dense_attention.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/models/rotate.h"
#include "tests/eval/models/values.h"

namespace kvlab {
namespace {

using test::random_tensor;
using test::value_at;

struct Case {
  int heads, kv_heads, head_dim, rows;
  int64_t window_left;
  double softcap;
  int distances = 0;  // entries of a bias by distance
  int sources = 0;    // rows of a cross layer; 0: a self layer
  int key_rows() const { return sources > 0 ? sources : rows; }
};

Layer layer_of(const Case& c) {
  Layer layer{.num_heads = c.heads,
              .num_kv_heads = c.kv_heads,
              .head_dim = c.head_dim,
              .value_dim = c.head_dim,
              .scale = 0.7,
              .softcap = c.softcap,
              .window_left = c.window_left,
              .distance_bias = c.distances};
  if (c.sources > 0) {
    layer.kind = Layer::Kind::cross;
    return layer;
  }
  layer.rope = {.style = Rope::Style::half_split, .rotary_dim = c.head_dim};
  for (int i = 0; i < c.head_dim / 2; ++i) layer.rope.inv_freq.push_back(std::pow(0.5, i));
  return layer;
}

struct Rows {
  Tensor queries, keys, values, bias, out;
  std::vector<int32_t> positions;
};
Rows rows_of(const Case& c, int first_position) {
  Rows r{.queries = random_tensor("q", Dtype::f32, {c.rows, c.heads, c.head_dim}, 1),
         .keys = random_tensor("k", Dtype::f32, {c.key_rows(), c.kv_heads, c.head_dim}, 2),
         .values = random_tensor("v", Dtype::f32, {c.key_rows(), c.kv_heads, c.head_dim}, 3),
         .bias = random_tensor("b", Dtype::f32, {c.heads, std::max(c.distances, 1)}, 4),
         .out = make_tensor("o", Dtype::f32, {c.rows, c.heads, c.head_dim}),
         .positions = std::vector<int32_t>(static_cast<size_t>(c.rows))};
  std::iota(r.positions.begin(), r.positions.end(), first_position);
  return r;
}

/// The definition, one query row and head at a time, in double.
std::vector<double> definition(const Case& c, const Layer& layer, const Rows& r, int t, int h) {
  const int kv = h / (c.heads / c.kv_heads), d = c.head_dim, half = d / 2;
  std::vector<double> out(static_cast<size_t>(d));
  double total = 0;
  for (int s = 0; s < c.key_rows(); ++s) {
    const int distance = c.sources > 0 ? 0 : t - s;
    if (distance < 0 || (c.window_left >= 0 && distance > c.window_left)) continue;
    double logit = 0;
    const int64_t q = (int64_t{t} * c.heads + h) * d, k = (int64_t{s} * c.kv_heads + kv) * d;
    for (int i = 0; i < half; ++i) {
      const double angle = layer.rope ? r.positions[static_cast<size_t>(t)] *
                                            layer.rope.inv_freq[static_cast<size_t>(i)]
                                      : 0;
      const double a = value_at(r.queries.view, q + i), b = value_at(r.queries.view, q + i + half);
      logit += (a * std::cos(angle) - b * std::sin(angle)) * value_at(r.keys.view, k + i);
      logit += (b * std::cos(angle) + a * std::sin(angle)) * value_at(r.keys.view, k + i + half);
    }
    logit *= layer.scale;
    if (c.distances > 0)
      logit += value_at(r.bias.view, h * c.distances + std::min(distance, c.distances - 1));
    if (c.softcap > 0) logit = c.softcap * std::tanh(logit / c.softcap);
    const double weight = std::exp(logit);
    total += weight;
    for (int i = 0; i < d; ++i)
      out[static_cast<size_t>(i)] += weight * value_at(r.values.view, k + i);
  }
  for (double& value : out) value /= total;
  return out;
}

class DenseAttentionOf : public testing::TestWithParam<Case> {};

TEST_P(DenseAttentionOf, IsItsDefinition) {
  const Case& c = GetParam();
  const Layer layer = layer_of(c);
  const Rows r = rows_of(c, 11);
  dense_attention({.shape = &layer,
                   .positions = r.positions,
                   .queries = r.queries.view,
                   .keys = r.keys.view,
                   .values = r.values.view,
                   .distance_bias = c.distances > 0 ? r.bias.view : TensorView{},
                   .out = r.out.view});
  // Logits of at most 0.7 d + 1, each with a relative error of about d 2^-24, move a value below 1
  // by that much; the weighted sum adds rows 2^-24.
  const double d = c.head_dim;
  const double bound = ((0.7 * d + 1) * (d + 4) + c.key_rows()) * std::ldexp(1.0, -24);
  for (int t = 0; t < c.rows; ++t)
    for (int h = 0; h < c.heads; ++h) {
      const std::vector<double> want = definition(c, layer, r, t, h);
      for (int i = 0; i < c.head_dim; ++i)
        ASSERT_NEAR(value_at(r.out.view, (int64_t{t} * c.heads + h) * c.head_dim + i),
                    want[static_cast<size_t>(i)], bound)
            << "row " << t << " head " << h;
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, DenseAttentionOf,
                         testing::Values(Case{1, 1, 8, 1, -1, 0}, Case{4, 4, 8, 7, -1, 0},
                                         Case{9, 3, 6, 9, -1, 0}, Case{4, 1, 8, 9, 0, 0},
                                         Case{4, 2, 8, 20, 4, 0}, Case{2, 2, 8, 9, -1, 0.5},
                                         Case{2, 1, 4, 300, 40, 2}, Case{2, 1, 4, 257, -1, 0},
                                         Case{4, 2, 8, 20, -1, 0, 6}, Case{2, 1, 4, 300, 40, 2, 33},
                                         Case{2, 2, 8, 3, -1, 0, 1}, Case{4, 2, 8, 7, -1, 0, 0, 1},
                                         Case{4, 2, 8, 300, -1, 2, 0, 19}));

}  // namespace
}  // namespace kvlab
