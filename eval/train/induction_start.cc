#include "eval/train/induction_start.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "eval/random.h"

namespace kvlab {
namespace {

constexpr int kPairs = 2;         // of heads
constexpr double kLookBack = 45;  // logit of the token looked back to, less that of none
constexpr double kMatch = 1.2;    // of queries and keys that match, per unit of input
constexpr double kWrite = 0.25;   // of what a looking head writes
constexpr double kCopy = 0.5;     // of what a matching head copies

using Rows = std::vector<std::vector<double>>;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Takes away the part along `unit`.
void project_out(std::vector<double>& row, const std::vector<double>& unit) {
  const double along = dot(row, unit);
  for (size_t i = 0; i < row.size(); ++i) row[i] -= along * unit[i];
}

void normalise(std::vector<double>& row) {
  const double length = std::sqrt(dot(row, row));
  for (double& x : row) x /= length;
}

/// Orthonormal rows, by Gram and Schmidt from normal numbers.
Rows orthonormal(size_t count, size_t width, SplitMix64& random) {
  Rows rows(count, std::vector<double>(width));
  for (size_t i = 0; i < count; ++i) {
    for (double& x : rows[i]) {
      const double radius = std::sqrt(-2 * std::log(1 - random.u01()));
      x = radius * std::cos(2 * std::numbers::pi * random.u01());
    }
    for (int twice = 0; twice < 2; ++twice)
      for (size_t j = 0; j < i; ++j) project_out(rows[i], rows[j]);
    normalise(rows[i]);
  }
  return rows;
}

at::Tensor tensor_of(const Rows& rows) {
  const auto n = static_cast<int64_t>(rows.size()), width = static_cast<int64_t>(rows[0].size());
  at::Tensor all = at::empty({n, width}, at::kFloat);
  float* out = all.data_ptr<float>();
  for (const auto& row : rows)
    for (const double x : row) *out++ = static_cast<float>(x);
  return all;
}

/// What the drawn basis gives each pair of heads.
struct Directions {
  at::Tensor mu;                            // [D]
  std::vector<at::Tensor> read{}, wrote{};  // R_h and S_h, [head_dim, D]
};

Directions draw(const DecoderConfig& config, uint64_t seed) {
  SplitMix64 random = random_stream(seed, "train.induction", 0);
  const auto width = static_cast<size_t>(config.width), dim = static_cast<size_t>(config.head_dim);
  const Rows mu = orthonormal(1, width, random);
  Rows basis = orthonormal(2 * kPairs * dim, width, random);
  for (auto& row : basis) project_out(row, mu[0]), normalise(row);
  const at::Tensor all = tensor_of(basis);
  Directions directions{.mu = tensor_of(mu)[0]};
  for (int h = 0; h < kPairs; ++h) {
    directions.read.push_back(all.narrow(0, h * config.head_dim, config.head_dim));
    directions.wrote.push_back(all.narrow(0, (kPairs + h) * config.head_dim, config.head_dim));
  }
  return directions;
}

void lift_mean(at::Tensor& embedding, const at::Tensor& mu, double init_length) {
  const at::Tensor unit = mu.to(embedding.device());
  embedding.sub_(at::outer(embedding.matmul(unit), unit)).add_(unit, init_length);
}

/// Rows of a projection that belong to one head.
at::Tensor head_rows(const at::Tensor& weight, int head, int head_dim) {
  return weight.narrow(0, int64_t{head} * head_dim, head_dim);
}
at::Tensor head_columns(const at::Tensor& weight, int head, int head_dim) {
  return weight.narrow(1, int64_t{head} * head_dim, head_dim);
}

/// Query and key of a head that looks back `distance` tokens, for an input of size 1 along mu.
struct Look {
  at::Tensor query, key;  // [head_dim]
};
Look look_back(const DecoderConfig& config, int distance) {
  const int half = config.head_dim / 2, pairs = (5 * config.head_dim + 16) / 32;
  const double size = std::sqrt(kLookBack / (pairs * config.attention_scale));
  Look look{at::zeros({config.head_dim}, at::kFloat), at::zeros({config.head_dim}, at::kFloat)};
  float *query = look.query.data_ptr<float>(), *key = look.key.data_ptr<float>();
  for (int c = 0; c < pairs; ++c) {
    const double angle = -distance * config.rope.inv_freq[static_cast<size_t>(c)];
    key[c] = static_cast<float>(size);
    query[c] = static_cast<float>(size * std::cos(angle));
    query[c + half] = static_cast<float>(size * std::sin(angle));
  }
  return look;
}

/// At features of the slower half of the rotary pairs root 2, so that they do as much as all of
/// them; every second one counts as odd.
struct SlowPairs {
  at::Tensor even, odd;  // [head_dim, 1]
};
SlowPairs slow_pairs(int head_dim) {
  SlowPairs slow{at::zeros({head_dim, 1}, at::kFloat), at::zeros({head_dim, 1}, at::kFloat)};
  for (int c = 0; c < head_dim; ++c)
    if (c % (head_dim / 2) >= head_dim / 4)
      (c % 2 == 0 ? slow.even : slow.odd).data_ptr<float>()[c] = std::numbers::sqrt2_v<float>;
  return slow;
}

void check(const DecoderConfig& c) {
  const bool is_plain = c.norm_form == NormForm::weight && !c.norms_after && !c.qk_norm &&
                        c.rope.style == Rope::Style::half_split &&
                        c.rope.rotary_dim == c.head_dim && c.embedding_scale == 1;
  KVLAB_REQUIRE(
      is_plain && c.num_layers >= 2 && c.num_kv_heads >= kPairs && c.head_dim % 4 == 0 &&
          c.width >= 2 * kPairs * c.head_dim,
      "E_CONFIG", "train: `init.induction` needs two layers, two kv heads, `hidden_size` of ",
      "at least 4 `head_dim`, rotary embedding of whole heads and plain norms; ", c.family, " has ",
      c.num_layers, " layers, ", c.num_kv_heads, " kv heads, `hidden_size` ", c.width,
      " and `head_dim` ", c.head_dim, "; leave it out");
}

}  // namespace

void add_induction_heads(const DecoderConfig& config, Match match, uint64_t seed,
                         DecoderTensors& weights) {
  check(config);
  const auto [mu, read, wrote] = draw(config, seed);
  const int dim = config.head_dim, group = config.num_heads / config.num_kv_heads;
  const double length = weights.embedding.norm(2, {1}).mean().item<double>();
  lift_mean(weights.embedding, mu, length);
  const double along_mu = std::sqrt(config.width / 2.0);  // of an embedding, normed
  const auto [even, odd] = slow_pairs(dim);
  BlockTensors &first = weights.blocks[0], &second = weights.blocks[1];
  const auto add = [](const at::Tensor& to_rows, const at::Tensor& what) {
    to_rows.add_(what.to(to_rows.device()));
  };
  for (int h = 0; h < kPairs; ++h) {
    const auto i = static_cast<size_t>(h);
    const bool is_pair = match == Match::pairs && h == 1;
    const Look back = look_back(config, h + 1);
    add(head_rows(first.key.weight, h, dim), at::outer(back.key, mu) / along_mu);
    add(head_rows(first.query.weight, h * group, dim), at::outer(back.query, mu) / along_mu);
    add(head_rows(first.value.weight, h, dim), (is_pair ? read[0] : read[i]) * kWrite);
    add(head_columns(first.output.weight, h * group, dim), wrote[i].t() * kWrite);

    const at::Tensor query = is_pair ? read[0] * even + wrote[0] * odd / 2 : read[i] * (even + odd);
    const at::Tensor key = is_pair ? wrote[0] * even + wrote[1] * odd : wrote[i] * (even + odd);
    add(head_rows(second.query.weight, h * group, dim), query * kMatch);
    add(head_rows(second.key.weight, h, dim), key * kMatch);
    add(head_rows(second.value.weight, h, dim), read[i] * kCopy);
    add(head_columns(second.output.weight, h * group, dim), read[i].t() * kCopy);
  }
}

}  // namespace kvlab
