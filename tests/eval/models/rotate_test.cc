#include "eval/models/rotate.h"

#include <gmock/gmock.h>

#include <cmath>
#include <complex>

#include "tests/eval/models/values.h"

namespace kvlab {
namespace {

using test::random_tensor;
using test::value_at;

struct RotateCase {
  Rope::Style style;
  int head_dim, rotary_dim;
  double attention_factor;
};

Rope rope_of(const RotateCase& c) {
  Rope rope{.style = c.style, .rotary_dim = c.rotary_dim, .attention_factor = c.attention_factor};
  for (int i = 0; i < c.rotary_dim / 2; ++i)
    rope.inv_freq.push_back(std::pow(10000.0, -2.0 * i / c.rotary_dim));
  return rope;
}

/// Pair c as the complex number it is, turned.
std::complex<double> turned(const Rope& rope, int position, int c, double a, double b) {
  const double angle = position * rope.inv_freq[static_cast<size_t>(c)];
  return std::complex<double>(a, b) * std::polar(rope.attention_factor, angle);
}

class Rotate : public testing::TestWithParam<RotateCase> {
 protected:
  int first_of(int c) const { return GetParam().style == Rope::Style::half_split ? c : 2 * c; }
  int second_of(int c) const {
    return GetParam().style == Rope::Style::half_split ? c + GetParam().rotary_dim / 2 : 2 * c + 1;
  }
};

TEST_P(Rotate, TurnsEveryPairByPositionTimesFrequency) {
  const RotateCase& p = GetParam();
  const Rope rope = rope_of(p);
  const std::vector<int32_t> positions{0, 1, 2, 77, 4095, 1'000'000};
  const int64_t rows = std::ssize(positions), heads = 3, d = p.head_dim;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const Tensor x = random_tensor("x", dtype, {rows, heads, d}, 1);
    const Tensor out = make_tensor("out", dtype, {rows, heads, d});
    Rotation(rope, positions).apply(x.view, out.view);
    // cos and sin to 2^-24 each, two products, one sum; then one rounding to the dtype.
    const double unit = dtype == Dtype::f32 ? std::ldexp(1.0, -24) : std::ldexp(1.0, -8);
    const double bound = p.attention_factor * 2 * (4 * std::ldexp(1.0, -24) + unit);
    for (int64_t row = 0; row < rows * heads; ++row) {
      const int position = positions[static_cast<size_t>(row / heads)];
      for (int c = 0; c < p.rotary_dim / 2; ++c) {
        const int64_t i = row * d + first_of(c), j = row * d + second_of(c);
        const auto want = turned(rope, position, c, value_at(x.view, i), value_at(x.view, j));
        ASSERT_NEAR(value_at(out.view, i), want.real(), bound) << "position " << position;
        ASSERT_NEAR(value_at(out.view, j), want.imag(), bound) << "position " << position;
      }
      for (int64_t c = p.rotary_dim; c < d; ++c)
        ASSERT_EQ(value_at(out.view, row * d + c), value_at(x.view, row * d + c));
    }
  }
}

TEST_P(Rotate, MayWriteOverItsInput) {
  const RotateCase& p = GetParam();
  const std::vector<int32_t> positions{5, 6};
  const Tensor x = random_tensor("x", Dtype::f32, {2, 1, p.head_dim}, 2);
  const Tensor out = make_tensor("out", Dtype::f32, {2, 1, p.head_dim});
  const Rotation rotation(rope_of(p), positions);
  rotation.apply(x.view, out.view);
  rotation.apply(x.view, x.view);
  for (int64_t i = 0; i < x.view.numel(); ++i)
    EXPECT_EQ(value_at(x.view, i), value_at(out.view, i));
}

TEST_P(Rotate, LeavesPositionZeroAsItIsButForTheFactor) {
  const RotateCase& p = GetParam();
  const std::vector<int32_t> positions{0};
  const Tensor x = random_tensor("x", Dtype::f32, {1, 2, p.head_dim}, 3);
  const Tensor out = make_tensor("out", Dtype::f32, {1, 2, p.head_dim});
  Rotation(rope_of(p), positions).apply(x.view, out.view);
  for (int64_t i = 0; i < x.view.numel(); ++i) {
    const bool is_rotated = i % p.head_dim < p.rotary_dim;
    const float factor = is_rotated ? static_cast<float>(p.attention_factor) : 1.0f;
    EXPECT_EQ(value_at(out.view, i), static_cast<float>(value_at(x.view, i)) * factor);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Rotate,
                         testing::Values(RotateCase{Rope::Style::half_split, 64, 64, 1.0},
                                         RotateCase{Rope::Style::half_split, 80, 80, 1.0},
                                         RotateCase{Rope::Style::half_split, 48, 24, 1.25},
                                         RotateCase{Rope::Style::interleaved, 64, 64, 1.0},
                                         RotateCase{Rope::Style::interleaved, 48, 24, 1.25},
                                         RotateCase{Rope::Style::half_split, 2, 2, 1.0}));

TEST(Rotate, WithoutRopeCopies) {
  const std::vector<int32_t> positions{3, 9};
  const Tensor x = random_tensor("x", Dtype::f32, {2, 2, 8}, 4);
  const Tensor out = make_tensor("out", Dtype::f32, {2, 2, 8});
  Rotation(Rope{}, positions).apply(x.view, out.view);
  for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(value_at(out.view, i), value_at(x.view, i));
}

}  // namespace
}  // namespace kvlab
