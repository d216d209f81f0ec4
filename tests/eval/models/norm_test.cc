#include "eval/models/norm.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/eval/models/values.h"

namespace kvlab {
namespace {

using test::random_tensor;
using test::rounded_to_bf16;
using test::value_at;

constexpr double kEps = 1e-5;

/// 1 / sqrt(mean square + eps) of row r.
double scale_of(const TensorView& x, int64_t r, int64_t n) {
  double sum = 0;
  for (int64_t c = 0; c < n; ++c) sum += std::pow(value_at(x, r * n + c), 2);
  return 1 / std::sqrt(sum / static_cast<double>(n) + kEps);
}

// float32: the sum of n squares, a root, a division and two products, relative; generous by the
// factor 2 that the sum's own error would need n terms of equal sign for.
double bound(int64_t n, double value) {
  return (static_cast<double>(n) + 8) * std::ldexp(std::abs(value), -24);
}

class RmsNorm : public testing::TestWithParam<int64_t> {};

TEST_P(RmsNorm, IsItsDefinitionInFloat32) {
  const int64_t n = GetParam(), rows = 5;
  const Tensor x = random_tensor("x", Dtype::f32, {rows, n}, 1, 3);
  const Tensor w = random_tensor("w", Dtype::f32, {n}, 2);
  for (const NormForm form : {NormForm::weight, NormForm::one_plus_weight}) {
    const Tensor out = make_tensor("out", Dtype::f32, {rows, n});
    rms_norm(x.view, w.view, kEps, form, out.view);
    for (int64_t i = 0; i < rows * n; ++i) {
      const double weight = value_at(w.view, i % n) + (form == NormForm::weight ? 0 : 1);
      const double want = value_at(x.view, i) * scale_of(x.view, i / n, n) * weight;
      ASSERT_NEAR(value_at(out.view, i), want, bound(n, want)) << "element " << i;
    }
  }
}

// Llama rounds the normed row before the weight; Gemma rounds once.  In bfloat16 the two differ.
TEST_P(RmsNorm, RoundsWhereTheNetworkWasTrainedTo) {
  const int64_t n = GetParam(), rows = 3;
  const Tensor x = random_tensor("x", Dtype::bf16, {rows, n}, 3, 3);
  const Tensor w = random_tensor("w", Dtype::bf16, {n}, 4);
  const Tensor out = make_tensor("out", Dtype::bf16, {rows, n});
  int64_t ties = 0;  // where float32's own error decides which way a value is rounded
  for (const NormForm form : {NormForm::weight, NormForm::one_plus_weight}) {
    rms_norm(x.view, w.view, kEps, form, out.view);
    for (int64_t i = 0; i < rows * n; ++i) {
      const double normed = value_at(x.view, i) * scale_of(x.view, i / n, n);
      const double weight = value_at(w.view, i % n);
      const double want = form == NormForm::weight
                              ? rounded_to_bf16(rounded_to_bf16(normed) * weight)
                              : rounded_to_bf16(normed * (1 + weight));
      ties += value_at(out.view, i) != want;
      ASSERT_NEAR(value_at(out.view, i), want, std::ldexp(std::abs(want), -7));
    }
  }
  EXPECT_LE(ties, 1 + 2 * rows * n / 500);
}

TEST_P(RmsNorm, MayWriteOverItsInput) {
  const int64_t n = GetParam();
  const Tensor x = random_tensor("x", Dtype::f32, {4, n}, 5),
               w = random_tensor("w", Dtype::f32, {n}, 6);
  const Tensor out = make_tensor("out", Dtype::f32, {4, n});
  rms_norm(x.view, w.view, kEps, NormForm::weight, out.view);
  rms_norm(x.view, w.view, kEps, NormForm::weight, x.view);
  for (int64_t i = 0; i < 4 * n; ++i) EXPECT_EQ(value_at(x.view, i), value_at(out.view, i));
}

INSTANTIATE_TEST_SUITE_P(Widths, RmsNorm, testing::Values(1, 15, 16, 17, 48, 80, 4096));

TEST(RmsNormOfHeads, NormsEveryHeadByItself) {
  const Tensor x = random_tensor("x", Dtype::f32, {3, 2, 16}, 7);
  const Tensor w = random_tensor("w", Dtype::f32, {16}, 8);
  const Tensor out = make_tensor("out", Dtype::f32, {3, 2, 16});
  rms_norm(x.view, w.view, kEps, NormForm::weight, out.view);
  for (int64_t i = 0; i < 96; ++i) {
    const double want =
        value_at(x.view, i) * scale_of(x.view, i / 16, 16) * value_at(w.view, i % 16);
    EXPECT_NEAR(value_at(out.view, i), want, bound(16, want));
  }
}

}  // namespace
}  // namespace kvlab
