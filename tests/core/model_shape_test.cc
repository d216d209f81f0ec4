#include "core/model_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::StartsWith;

ModelShape shape_of(int layers, int kv_heads, int head_dim) {
  const Layer layer{.num_heads = kv_heads,
                    .num_kv_heads = kv_heads,
                    .head_dim = head_dim,
                    .value_dim = head_dim,
                    .scale = 1 / std::sqrt(head_dim)};
  ModelShape shape{.architecture = "llama",
                   .width = 288,
                   .vocab_size = 100,
                   .max_positions = 64,
                   .layers = std::vector(static_cast<size_t>(layers), layer)};
  for (int i = 0; i < layers; ++i) shape.layers[static_cast<size_t>(i)].block = i;
  return shape;
}

TEST(DenseBytesPerToken, AreThoseOfKnownModels) {
  EXPECT_EQ(dense_bytes_per_token(shape_of(32, 32, 128)), 524'288);  // Llama-2-7B
  EXPECT_EQ(dense_bytes_per_token(shape_of(32, 8, 128)), 131'072);   // Llama-3-8B
  EXPECT_EQ(dense_bytes_per_token(shape_of(6, 6, 48)), 6'912);
}

TEST(DenseBytesPerToken, CountKeysAndValuesOfTheirOwnWidthAndNoTaps) {
  ModelShape shape = shape_of(1, 2, 8);
  shape.layers[0].value_dim = 4;
  shape.layers.push_back({.kind = Layer::Kind::tap});
  EXPECT_EQ(dense_bytes_per_token(shape), 2 * (8 + 4) * 2);
}

TEST(DenseBytes, CountEachTokenWhereItIsStored) {
  ModelShape shape = shape_of(2, 2, 8);
  EXPECT_FALSE(has_cross(shape));
  EXPECT_EQ(dense_bytes(shape, 10, 1000), 10 * 2 * 2 * 16 * 2);
  shape.layers[1].kind = Layer::Kind::cross;
  shape.layers[1].value_dim = 4;
  EXPECT_TRUE(has_cross(shape));
  EXPECT_EQ(dense_bytes_per_token(shape), 2 * 16 * 2);
  EXPECT_EQ(dense_bytes_per_token(shape, Layer::Kind::cross), 2 * 12 * 2);
  EXPECT_EQ(dense_bytes(shape, 10, 7), 10 * 64 + 7 * 48);
}

TEST(CheckShape, AcceptsWhatFits) {
  ModelShape shape = shape_of(2, 2, 8);
  shape.layers[0].num_heads = 6;
  shape.layers[0].alibi_slopes.assign(6, 0.5F);
  shape.layers[0].distance_bias = 1;
  shape.layers[1].rope = {.style = Rope::Style::half_split, .rotary_dim = 4, .inv_freq = {1, 0.5}};
  shape.layers.push_back({.kind = Layer::Kind::tap, .block = 2});
  shape.states = {{.name = "a", .sizes = {2, 3}}, {.name = "b"}};
  EXPECT_EQ(error_of([&] { check(shape); }), "no error");
}

TEST(CheckShape, NamesTheFirstThingThatDoesNotFit) {
  const double inf = std::numeric_limits<double>::infinity();
  const auto refusal = [](const std::function<void(ModelShape&, Layer&)>& spoil) {
    ModelShape shape = shape_of(2, 4, 8);
    spoil(shape, shape.layers[1]);
    return error_of([&] { check(shape); });
  };
  EXPECT_EQ(refusal([](auto&, Layer& l) { l.num_heads = 6; }),
            "E_SHAPE: llama: layer 1: num_heads 6 is not a multiple of num_kv_heads 4");
  EXPECT_EQ(refusal([](auto&, Layer& l) { l.num_kv_heads = 0; }),
            "E_SHAPE: llama: layer 1: num_heads is 4 and num_kv_heads 0, both must be at least 1");
  EXPECT_THAT(refusal([](auto&, Layer& l) { l.value_dim = 0; }),
              StartsWith("E_SHAPE: llama: layer 1: head_dim is 8 and value_dim 0"));
  EXPECT_THAT(refusal([](auto&, Layer& l) { l.scale = 0; }),
              StartsWith("E_SHAPE: llama: layer 1: scale is 0"));
  EXPECT_THAT(refusal([&](auto&, Layer& l) { l.scale = inf; }),
              StartsWith("E_SHAPE: llama: layer 1: scale is inf"));
  EXPECT_THAT(refusal([](auto&, Layer& l) { l.softcap = -1; }),
              StartsWith("E_SHAPE: llama: layer 1: softcap is -1"));
  EXPECT_THAT(refusal([](auto&, Layer& l) { l.window_left = -2; }),
              StartsWith("E_SHAPE: llama: layer 1: window_left is -2"));
  EXPECT_EQ(refusal([](auto&, Layer& l) { l.alibi_slopes.assign(3, 1.F); }),
            "E_SHAPE: llama: layer 1: there are 3 alibi_slopes for 4 heads");
  EXPECT_THAT(refusal([](auto&, Layer& l) { l.alibi_slopes.assign(4, NAN); }),
              StartsWith("E_SHAPE: llama: layer 1: an alibi slope is nan"));
  EXPECT_EQ(refusal([](auto&, Layer& l) { l.distance_bias = -1; }),
            "E_SHAPE: llama: layer 1: distance_bias is -1, must be at least 1, or 0 for none");
  EXPECT_EQ(refusal([](auto&, Layer& l) {
              l.kind = Layer::Kind::cross;
              l.distance_bias = 2;
            }),
            "E_SHAPE: llama: layer 1: distance_bias is 2, but on a cross layer queries have no "
            "distance to rows; must be 0");
  EXPECT_THAT(refusal([](auto&, Layer& l) { l.block = -1; }),
              StartsWith("E_SHAPE: llama: layer 1: block -1 comes after block 0"));
  EXPECT_EQ(refusal([](ModelShape& s, auto&) { s.layers.clear(); }),
            "E_SHAPE: llama: there are no layers");
  EXPECT_THAT(refusal([](ModelShape& s, auto&) { s.vocab_size = 0; }),
              StartsWith("E_SHAPE: llama: width is 288, vocab_size 0"));
  EXPECT_THAT(refusal([](ModelShape& s, auto&) { s.states = {{.name = "a"}, {.name = "a"}}; }),
              StartsWith("E_SHAPE: llama: state `a`: names must be distinct"));
  EXPECT_THAT(refusal([](ModelShape& s, auto&) { s.states = {{.name = "a", .sizes = {0}}}; }),
              StartsWith("E_SHAPE: llama: state `a` has a dimension of 0"));
}

TEST(CheckShape, NamesWhatIsWrongWithTheRotation) {
  const auto refusal = [](const Rope& rope) {
    ModelShape shape = shape_of(1, 1, 8);
    shape.layers[0].rope = rope;
    return error_of([&] { check(shape); });
  };
  using Style = Rope::Style;
  EXPECT_EQ(refusal({.style = Style::interleaved, .rotary_dim = 3, .inv_freq = {1}}),
            "E_SHAPE: llama: layer 0: rotary_dim is 3, must be even and in 2..8");
  EXPECT_THAT(refusal({.style = Style::half_split, .rotary_dim = 10, .inv_freq = {1, 1, 1, 1, 1}}),
              StartsWith("E_SHAPE: llama: layer 0: rotary_dim is 10"));
  EXPECT_EQ(
      refusal({.style = Style::half_split, .rotary_dim = 8, .inv_freq = {1}}),
      "E_SHAPE: llama: layer 0: there are 1 inv_freq for rotary_dim 8, half as many are needed");
  EXPECT_THAT(refusal({.style = Style::half_split, .rotary_dim = 2, .inv_freq = {NAN}}),
              StartsWith("E_SHAPE: llama: layer 0: an inv_freq is nan"));
  EXPECT_THAT(
      refusal(
          {.style = Style::half_split, .rotary_dim = 2, .inv_freq = {1}, .attention_factor = 0}),
      StartsWith("E_SHAPE: llama: layer 0: attention_factor is 0"));
  EXPECT_EQ(refusal({.rotary_dim = 2}),
            "E_SHAPE: llama: layer 0: rope has no style but rotary_dim 2 and 0 frequencies");
}

}  // namespace
}  // namespace kvlab
