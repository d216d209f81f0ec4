// What slim gives back is dense attention: through a real cache against the definition in double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "tests/methods/slim/definition.h"

namespace kvlab::test {
namespace {

constexpr int64_t kTokens = 40;

struct Variant {
  std::string name{};
  FakeConfig config{};
};
void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

/// Positions x biases x what stands between scores and probabilities.
std::vector<Variant> variants() {
  std::vector<Variant> all;
  struct Positions {
    const char* name;
    Rope::Style style;
    int rotary_dim;
  };
  for (const Positions& p :
       {Positions{"None", Rope::Style::none, 0}, Positions{"Halves", Rope::Style::half_split, 0},
        Positions{"Interleaved", Rope::Style::interleaved, 0},
        Positions{"Partial", Rope::Style::half_split, 4}})
    for (const int bias : {0, 1, 2, 3})
      for (const char* scores : {"Causal", "Window", "Softcap", "Sink", "Alibi"}) {
        const std::string which = scores;
        if (which == "Alibi" && p.style != Rope::Style::none) continue;
        Variant one{std::string(p.name) + "Bias" + std::to_string(bias) + which,
                    {.rope = p.style,
                     .rotary_dim = p.rotary_dim,
                     .key_bias = (bias & 1) != 0,
                     .value_bias = (bias & 2) != 0,
                     .sink = which == "Sink",
                     .alibi = which == "Alibi"}};
        if (which == "Window") one.config.window_left = 11;
        if (which == "Softcap") one.config.softcap = 1.5;
        all.push_back(one);
      }
  return all;
}

/// Keys before RoPE and values of tokens [0, n) as a cache gives them back.
class Decoded {
 public:
  Decoded(const SlimCache& slim, SeqId sequence, int64_t n)
      : heads_(slim.model.config().kv_heads), d_(slim.model.config().head_dim) {
    for (int l = 0; l < slim.model.config().layers; ++l) {
      keys_.emplace_back(static_cast<size_t>(n * heads_ * d_));
      values_.emplace_back(keys_.back().size());
      slim.cache->materialise(l, sequence, {0, n},
                              dense_view(keys_.back().data(), Dtype::f32, {n, heads_, d_}),
                              dense_view(values_.back().data(), Dtype::f32, {n, heads_, d_}));
    }
  }
  std::vector<double> key(int layer, int head, int64_t t) const {
    return row(keys_, layer, head, t);
  }
  std::vector<double> value(int layer, int head, int64_t t) const {
    return row(values_, layer, head, t);
  }

 private:
  std::vector<double> row(const std::vector<std::vector<float>>& rows, int layer, int head,
                          int64_t t) const {
    const auto first = rows[static_cast<size_t>(layer)].begin() + (t * heads_ + head) * d_;
    return {first, first + d_};
  }
  int64_t heads_, d_;
  std::vector<std::vector<float>> keys_{}, values_{};
};

/// Root mean square of have - want over that of want, of all heads of tokens [0, n).
double error_of(const HeadRow& have, const HeadRow& want, int layer, int heads, int64_t n) {
  double apart = 0, size = 0;
  for (int64_t t = 0; t < n; ++t)
    for (int h = 0; h < heads; ++h) {
      const std::vector<double> a = have(layer, h, t), b = want(layer, h, t);
      for (size_t i = 0; i < b.size(); ++i) {
        apart += std::pow(a[i] - b[i], 2);
        size += std::pow(b[i], 2);
      }
    }
  return std::sqrt(apart / size);
}

class Identity : public testing::TestWithParam<Variant> {};

TEST_P(Identity, RowsInFloat32GiveDenseAttention) {
  FakeModel model(GetParam().config);
  const auto want = dense_attention(model, kTokens);
  const bool turns = GetParam().config.rope != Rope::Style::none;
  for (const char* mode : {"keys", "input", "klt"}) {
    if (turns && std::string(mode) != "keys") continue;
    const Json params = {{"mode", mode}, {"store", "float32"}};
    // Float32 rows of W_K with a gain near 100 at most: 2^-24 of them is 6e-6.
    EXPECT_LE(relative_error(run_slim(model, params, {kTokens}), want), 1e-4) << mode;
    EXPECT_LE(relative_error(run_slim(model, params, std::vector<int64_t>(kTokens, 1)), want), 1e-4)
        << mode << ", one by one";
  }
}

/// Rows in 16 bits lose what prepare says they lose, and attention over them loses nothing more.
TEST_P(Identity, RowsIn16BitsKeepWhatPrepareMeasured) {
  FakeModel model(GetParam().config);
  if (GetParam().config.rope == Rope::Style::none) return;
  const int heads = model.config().kv_heads;
  for (const char* mode :
       {"keys", "keys_shaped", "keys_side", "keys_shaped_side", "keys_basis", "keys24"})
    for (const char* store : {"bfloat16", "float16"}) {
      if (std::string(mode) == "keys_basis" && GetParam().config.rotary_dim > 0) continue;
      SCOPED_TRACE(std::string(mode) + " in " + store);
      const Artifact artifact = prepare_slim(model, {{"mode", mode}, {"store", store}});
      SlimCache slim(model, artifact);
      const SeqId sequence = slim.cache->add_sequence();
      slim.pass(sequence, {0, kTokens});
      const Decoded decoded(slim, sequence, kTokens);
      const HeadRow key = std::bind_front(&Decoded::key, &decoded),
                    value = std::bind_front(&Decoded::value, &decoded);
      for (const Json& layer : artifact.header().at("layers")) {
        const int l = layer.at("layer");
        const double keys =
                         error_of(key, std::bind_front(&FakeModel::key, &model), l, heads, kTokens),
                     values = error_of(value, std::bind_front(&FakeModel::value, &model), l, heads,
                                       kTokens);
        EXPECT_NEAR(values / layer.at("value_error").get<double>(), 1, 0.5);
        EXPECT_LE(keys, 1.5 * layer.at("key_error").get<double>());
      }
      EXPECT_LE(
          relative_error(slim.out, dense_attention(model, kTokens, {.key = key, .value = value})),
          1e-4);
    }
}

std::string name_of(const testing::TestParamInfo<Variant>& variant) { return variant.param.name; }
INSTANTIATE_TEST_SUITE_P(All, Identity, testing::ValuesIn(variants()), name_of);

}  // namespace
}  // namespace kvlab::test
