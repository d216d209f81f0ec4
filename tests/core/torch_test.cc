#include "core/torch.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::StartsWith;

constexpr std::array kDtypes{Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::i64,
                             Dtype::i32, Dtype::i16, Dtype::i8,  Dtype::u8,   Dtype::boolean};

TEST(Torch, HasEveryDtypeUnderTheSameSize) {
  for (const Dtype dtype : kDtypes) {
    EXPECT_EQ(dtype_of(scalar_type(dtype)), dtype);
    EXPECT_EQ(static_cast<int64_t>(c10::elementSize(scalar_type(dtype))), size_of(dtype));
  }
  EXPECT_THAT(error_of([] { dtype_of(at::kComplexFloat); }), StartsWith("E_UNSUPPORTED"));
}

TEST(Torch, SharesMemoryBothWays) {
  const Tensor tensor = make_tensor("x", Dtype::f32, {2, 3});
  to_torch(tensor.view).select(0, 1).fill_(7);
  EXPECT_EQ(tensor.view.as<float>()[2], 0);
  EXPECT_EQ(tensor.view.as<float>()[3], 7);
  const at::Tensor other = at::zeros({4}, at::kInt);
  view_of(other).as<int32_t>()[3] = 5;
  EXPECT_EQ(other[3].item<int32_t>(), 5);
}

TEST(Torch, KeepsStrides) {
  const at::Tensor whole = at::arange(24, at::kLong).view({2, 3, 4});
  const TensorView view = view_of(whole.transpose(0, 2));
  EXPECT_EQ(view.dims, 3);
  EXPECT_EQ(view.size(0), 4);
  EXPECT_EQ(view.stride(0), 1);
  EXPECT_EQ(view.stride(2), 12);
  EXPECT_TRUE(to_torch(view).equal(whole.transpose(0, 2)));
}

TEST(Torch, HoldsWhatItIsToldTo) {
  Tensor held;
  {
    const at::Tensor temporary = at::zeros({1000}, at::kFloat).add(3);
    held = hold("x", temporary);
  }
  EXPECT_EQ(held.name, "x");
  EXPECT_EQ(held.view.as<float>()[999], 3);
}

TEST(Torch, RefusesMoreDimensionsThanAViewHas) {
  EXPECT_THAT(error_of([] { view_of(at::zeros({1, 1, 1, 1, 1})); }), StartsWith("E_UNSUPPORTED"));
}

}  // namespace
}  // namespace kvlab
