// The small words of core: dtypes, views, read policies, encoded sizes, page lookups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/chunk.h"
#include "core/codec.h"
#include "core/rows_view.h"
#include "core/stage.h"
#include "core/types.h"
#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;

TEST(Dtype, NamesAndSizesAreThoseOfPython) {
  const std::tuple<Dtype, const char*, int> all[] = {
      {Dtype::f64, "float64", 8},   {Dtype::f32, "float32", 4}, {Dtype::f16, "float16", 2},
      {Dtype::bf16, "bfloat16", 2}, {Dtype::i64, "int64", 8},   {Dtype::i32, "int32", 4},
      {Dtype::i16, "int16", 2},     {Dtype::i8, "int8", 1},     {Dtype::u8, "uint8", 1},
      {Dtype::boolean, "bool", 1}};
  for (const auto& [dtype, name, bytes] : all) {
    EXPECT_EQ(name_of(dtype), name);
    EXPECT_EQ(dtype_named(name), dtype);
    EXPECT_EQ(size_of(dtype), bytes);
  }
  EXPECT_EQ(error_of([] { dtype_named("bfloat61"); }),
            "E_UNKNOWN: dtype `bfloat61`; did you mean `bfloat16`?");
}

TEST(TensorView, WalksRows) {
  float data[2 * 3 * 4] = {};
  const TensorView view = dense_view(data, Dtype::f32, {2, 3, 4});
  EXPECT_EQ(view.numel(), 24);
  EXPECT_TRUE(view.is_contiguous());
  EXPECT_EQ(view.at(1), reinterpret_cast<u8*>(data + 12));
  const TensorView last = view.rows({1, 2});
  EXPECT_EQ(last.size(0), 1);
  EXPECT_EQ(last.as<float>(), data + 12);
  EXPECT_FALSE(TensorView{});
}

TEST(TensorView, SeesStridesThatAreNotDense) {
  float data[12] = {};
  TensorView view = dense_view(data, Dtype::f32, {3, 4});
  view.sizes[1] = 2;
  EXPECT_FALSE(view.is_contiguous());
  view.sizes = {1, 4};
  view.strides[0] = 99;  // of a single row no stride is taken
  EXPECT_TRUE(view.is_contiguous());
}

TEST(ReadPolicy, NamesAreInverse) {
  for (const ReadPolicy policy : {ReadPolicy::raw_chunk, ReadPolicy::stored, ReadPolicy::masked})
    EXPECT_EQ(read_policy_named(name_of(policy)), policy);
  EXPECT_EQ(error_of([] { read_policy_named("store"); }),
            "E_UNKNOWN: read policy `store`; did you mean `stored`?");
}

TEST(Encoded, CountsPayloadAndMetadataOfATile) {
  // 32 rows of 16 bytes and 4 bytes of scale each; per tile 128 bytes and 8 of minima.
  const Encoded format{.planes = {{.row_bytes = 16},
                                  {.row_bytes = 4, .metadata = true},
                                  {.tile_bytes = 128},
                                  {.tile_bytes = 8, .metadata = true}},
                       .tile_tokens = 32,
                       .exact = {Dtype::bf16}};
  EXPECT_EQ(format.payload_bytes_per_tile(), 32 * 16 + 128);
  EXPECT_EQ(format.metadata_bytes_per_tile(), 32 * 4 + 8);
  EXPECT_TRUE(format.is_exact_for(Dtype::bf16));
  EXPECT_FALSE(format.is_exact_for(Dtype::f32));
}

TEST(PageLayout, FindsStreamsAndColumnsByName) {
  PageLayout page;
  page.streams.resize(2);
  page.streams[0].name = "key";
  page.streams[1].name = "value";
  page.columns = {{.name = "position"}};
  EXPECT_EQ(page.stream("value"), 1);
  EXPECT_EQ(page.stream("position"), -1);
  EXPECT_EQ(page.column("position"), 0);
  EXPECT_EQ(page.column("key"), -1);
}

TEST(DenseLayout, StoresKeysAndValuesOfEveryHeadAsTheyAre) {
  Layer layer{.num_heads = 8, .num_kv_heads = 2, .head_dim = 6, .value_dim = 4};
  layer.rope = {.style = Rope::Style::half_split, .rotary_dim = 2, .inv_freq = {1}};
  const Layout stored = dense_layout(layer, false);
  ASSERT_EQ(stored.streams.size(), 2U);
  EXPECT_EQ(stored.streams[0].units * stored.streams[0].width, 2 * 6);
  EXPECT_EQ(stored.streams[1].units * stored.streams[1].width, 2 * 4);
  EXPECT_EQ(stored.key.stream, "key");
  EXPECT_EQ(stored.values.at(0).stream, "value");
  EXPECT_FALSE(stored.key.rotate || stored.streams[0].pre_rope);
}

TEST(DenseLayout, RotatesWhenReadIfAskedToAndIfThereIsARotation) {
  Layer layer{.num_heads = 1, .num_kv_heads = 1, .head_dim = 2, .value_dim = 2};
  EXPECT_FALSE(dense_layout(layer, true).key.rotate);
  layer.rope = {.style = Rope::Style::half_split, .rotary_dim = 2, .inv_freq = {1}};
  EXPECT_TRUE(dense_layout(layer, true).key.rotate);
  EXPECT_TRUE(dense_layout(layer, true).streams[0].pre_rope);
}

}  // namespace
}  // namespace kvlab
