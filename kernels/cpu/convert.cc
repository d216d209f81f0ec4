#include "kernels/cpu/convert.h"

#include "core/error.h"

namespace kvlab {
namespace {

int32_t code_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return 0;
    case Dtype::f16:
      return 1;
    case Dtype::bf16:
      return 2;
    case Dtype::f64:
      return 3;
    default:
      fail("E_SHAPE", "cpu engine: rows of dtype ", name_of(dtype), "; allowed: float dtypes");
  }
}

ConvertRow row_of(const TensorView& rows, int64_t i0, int64_t i1, int64_t count) {
  u8* at = rows.at(i0) + i1 * rows.stride(1) * size_of(rows.dtype);
  return {.data = at, .dtype = code_of(rows.dtype), .count = count};
}

}  // namespace

void check_rows(const TensorView& rows, const char* what) {
  KVLAB_REQUIRE(rows.dims == 3, "E_SHAPE", "cpu engine: ", what, " have ", rows.dims,
                " dimensions; they must be [rows, heads or units, features]");
  code_of(rows.dtype);
  KVLAB_REQUIRE(rows.stride(2) == 1 || rows.size(2) <= 1, "E_SHAPE", "cpu engine: ", what,
                " have features ", rows.stride(2), " elements apart; they must lie side by side");
}

void load_row(const AttentionSteps& steps, const TensorView& rows, int64_t i0, int64_t i1,
              int64_t count, float* to) {
  ConvertRow row = row_of(rows, i0, i1, count);
  row.floats = to;
  steps.load(row);
}

void store_row(const AttentionSteps& steps, const TensorView& rows, int64_t i0, int64_t i1,
               int64_t count, const float* from) {
  ConvertRow row = row_of(rows, i0, i1, count);
  row.floats = const_cast<float*>(from);
  steps.store(row);
}

TilePart float_rows(const float* data, int64_t stride, int rows, int features) {
  // The float32 codec's Params is its width, which only counts bytes: those of one feature.
  static constexpr int32_t kAnyWidth[16] = {1};
  static u8 no_state[16];
  TilePart part{};
  part.params = kAnyWidth;
  part.state = no_state;
  part.tile.plane[0] = reinterpret_cast<const u8*>(data);
  part.tile.stride[0] = 4 * stride;
  part.tile.rows = part.rows = rows;
  part.features = features;
  return part;
}

}  // namespace kvlab
