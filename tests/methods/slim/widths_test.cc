// Widths other than a square W_K, the example worked by hand through a real cache, and what is not
// an identity.
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/methods/slim/definition.h"
#include "tests/methods/slim/rows.h"

namespace kvlab::test {
namespace {

using Vector = std::vector<double>;
using Outputs = std::vector<std::vector<double>>;

double apart(const Outputs& a, const Outputs& b) {
  double difference = 0, size = 0;
  for (size_t l = 0; l < b.size(); ++l)
    for (size_t i = 0; i < b[l].size(); ++i) {
      difference += std::pow(a[l][i] - b[l][i], 2);
      size += std::pow(b[l][i], 2);
    }
  return std::sqrt(difference / size);
}

/// Keys [[1, 2, 4, 6], [0, 1, -1, 3]] of two heads of two features, seen by a query that weighs
/// them (1/2, 1/2) in the first head and (3/4, 1/4) in the second.
FakeModel worked_example() {
  FakeModel model(
      {.heads = 2, .kv_heads = 2, .head_dim = 2, .width = 4, .rope = Rope::Style::none});
  FakeLayer& layer = model.layer(0);
  layer.key = {1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1};  // [out, in]
  layer.value = {2, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 3};
  layer.query.assign(16, 0);
  layer.query_bias = {0, 0, static_cast<float>(std::sqrt(2.0) * std::log(3.0) / 5), 0};
  const float x[] = {1, 2, 3, 4, 0, 1, -1, 2};
  std::copy_n(x, 8, layer.hidden.begin());
  return model;
}

TEST(WorkedExample, ComesOutOfACacheAsComputedByHand) {
  FakeModel model = worked_example();
  for (const char* store : {"float32", "float16"}) {
    SlimCache slim(model, Json{{"mode", "keys"}, {"store", store}});
    const SeqId sequence = slim.cache->add_sequence();
    slim.pass(sequence, {0, 2});
    std::vector<float> keys(8), values(8);
    slim.cache->materialise(0, sequence, {0, 2}, dense_view(keys.data(), Dtype::f32, {2, 2, 2}),
                            dense_view(values.data(), Dtype::f32, {2, 2, 2}));
    EXPECT_EQ(keys, (std::vector<float>{1, 2, 4, 6, 0, 1, -1, 3})) << store;
    EXPECT_EQ(values, (std::vector<float>{5, 2, 3, 13, -1, 1, -1, 6})) << store;
    const float want[] = {2, 1.5F, 2, 11.25F};
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(slim.out[0][4 + i], want[i], 1e-5) << store;
  }
}

struct Width {
  const char* name;
  int heads, kv_heads, head_dim, width;
};
const Width kWidths[] = {{"twice the model's: right inverse, X-cache", 4, 4, 16, 32},
                         {"three quarters of it: completed", 3, 3, 8, 32},
                         {"three quarters of it, two queries a head", 6, 3, 8, 32},
                         {"the model's, two queries a head", 8, 4, 8, 32}};

TEST(Widths, AllGiveDenseAttention) {
  for (const Width& w : kWidths)
    for (const Rope::Style style : {Rope::Style::none, Rope::Style::half_split})
      for (const bool biased : {false, true}) {
        FakeModel model({.heads = w.heads,
                         .kv_heads = w.kv_heads,
                         .head_dim = w.head_dim,
                         .width = w.width,
                         .rope = style,
                         .key_bias = biased,
                         .value_bias = biased});
        const Outputs want = dense_attention(model, 30);
        for (const char* mode : {"keys", "input", "klt"}) {
          if (style != Rope::Style::none && mode != std::string("keys")) continue;
          EXPECT_LE(relative_error(run_slim(model, {{"mode", mode}, {"store", "float32"}}, {29, 1}),
                                   want),
                    1e-4)
              << w.name << ", " << mode << ", biased " << biased;
        }
      }
}

TEST(Widths, TheRowIsTheNarrowestThatGivesBoth) {
  const auto width = [](const Width& w, Rope::Style style, const char* mode) {
    FakeModel model({.heads = w.heads,
                     .kv_heads = w.kv_heads,
                     .head_dim = w.head_dim,
                     .width = w.width,
                     .rope = style});
    const Artifact made = prepare_slim(model, {{"mode", mode}, {"store", "float32"}});
    return made.header().at("layers").at(0).at("width").get<int>();
  };
  EXPECT_EQ(width(kWidths[0], Rope::Style::half_split, "keys"), 64);
  EXPECT_EQ(width(kWidths[0], Rope::Style::none, "input"), 32);
  for (const int i : {1, 2, 3}) {
    EXPECT_EQ(width(kWidths[i], Rope::Style::half_split, "keys"), 32) << kWidths[i].name;
    EXPECT_EQ(width(kWidths[i], Rope::Style::none, "klt"), 32) << kWidths[i].name;
  }
}

// --- what is not an identity

TEST(NoIdentity, DroppingTheKeyBiasUnderRope) {
  for (const Rope::Style style : {Rope::Style::none, Rope::Style::half_split}) {
    FakeModel model({.rope = style, .key_bias = true});
    const Outputs want = dense_attention(model, 24);
    const HeadRow without = [&](int l, int head, int64_t j) {
      Vector key = model.key(l, head, j);
      for (size_t c = 0; c < key.size(); ++c)
        key[c] -= double{model.layer(l).key_bias[static_cast<size_t>(head) * key.size() + c]};
      return key;
    };
    const double error = apart(dense_attention(model, 24, {.key = without}), want);
    if (style == Rope::Style::none)
      EXPECT_LE(error, 1e-13) << "it adds one number to all scores of a query";
    else
      EXPECT_GT(error, 1e-2);
  }
}

TEST(NoIdentity, FoldingTheValueBiasUnderASink) {
  for (const bool sink : {false, true}) {
    FakeModel model({.value_bias = true, .sink = sink});
    const auto bias = [&](int l, int head, int64_t) {
      const auto first = model.layer(l).value_bias.begin() + head * 8;
      return Vector(first, first + 8);
    };
    const HeadRow without = [&](int l, int head, int64_t j) {
      Vector value = model.value(l, head, j);
      for (size_t c = 0; c < value.size(); ++c) value[c] -= bias(l, head, j)[c];
      return value;
    };
    const double error = apart(dense_attention(model, 24, {.value = without, .added = bias}),
                               dense_attention(model, 24));
    if (sink)
      EXPECT_GT(error, 1e-2);
    else
      EXPECT_LE(error, 1e-13);
  }
}

TEST(NoIdentity, ValuesFromFewerKeysThanTheWidth) {
  const int64_t d = 240;
  for (const int64_t e : {60, 120, 160}) {
    const slim::Solution solution = slim::solve(gaussian(d, e, 401), gaussian(d, e, 402));
    const double law = std::sqrt(1 - static_cast<double>(e) / static_cast<double>(d));
    EXPECT_NEAR(solution.residual / law, 1, 0.05) << e << ", seeds 401, 402";
  }
}

TEST(NoIdentity, AHeadOfValuesFromItsOwnHeadOfKeys) {
  const int64_t d = 64, head = 16;
  const at::Tensor key = gaussian(d, d, 411), value = gaussian(d, d, 412),
                   x = gaussian(100, d, 413);
  const at::Tensor map = slim::solve(key, value).map;
  at::Tensor rows = at::mm(x, key);
  const auto first_head = [&] { return at::mm(rows, map).narrow(1, 0, head).contiguous(); };
  const at::Tensor want = at::mm(x, value).narrow(1, 0, head).contiguous();
  EXPECT_LE(kvlab::test::apart(first_head(), want), 1e-11);
  rows.narrow(1, head, head).zero_();
  EXPECT_GT(kvlab::test::apart(first_head(), want), 0.5) << "seeds 411 to 413";
}

}  // namespace
}  // namespace kvlab::test
