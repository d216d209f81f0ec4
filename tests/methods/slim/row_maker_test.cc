// What a row becomes: rounding, shaped rounding and the side cache, against their definitions and
// the laws of what they cost.
#include "methods/slim/row_maker.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/methods/slim/rows.h"

namespace kvlab::test {
namespace {

using slim::Mode;

struct Grid {
  Dtype format;
  int digits, least;  // of the mantissa; exponent of the smallest normal number
  double largest;
};
constexpr Grid kGrids[] = {{Dtype::bf16, 7, -126, 0x1.fep127}, {Dtype::f16, 10, -14, 65504}};

double spacing(const Grid& grid, double x) {
  const int exponent = x == 0 ? grid.least : std::max(std::ilogb(x), grid.least);
  return std::ldexp(1.0, exponent - grid.digits);
}
/// The definition: the nearest multiple of the spacing, ties to the even one; beyond the largest
/// number and half a spacing, infinity.
double nearest(const Grid& grid, double x) {
  const double step = spacing(grid, x), y = std::nearbyint(x / step) * step;
  return std::abs(y) > grid.largest ? std::copysign(INFINITY, x) : y;
}

std::vector<float> samples(const Grid& grid) {
  std::vector<float> all{0.0F, 1.0F, 1e-30F, 3e38F, static_cast<float>(grid.largest)};
  std::mt19937 random(7);
  std::uniform_real_distribution<float> mantissa(1, 2);
  for (int e = grid.least - grid.digits - 2; e <= std::ilogb(grid.largest); ++e)
    for (int i = 0; i < 20; ++i) {
      const float x = std::ldexp(mantissa(random), e);
      const double step = spacing(grid, x), below = std::floor(x / step) * step;
      for (const double y : {double{x}, below, below + step / 2, below + step})  // and a tie
        if (y <= FLT_MAX) all.push_back(static_cast<float>(y));
    }
  const size_t count = all.size();
  for (size_t i = 0; i < count; ++i) all.push_back(-all[i]);
  return all;
}

TEST(Rounded, IsTheNearestNumberOfTheFormat) {
  for (const Grid& grid : kGrids) {
    for (const float x : samples(grid)) {
      EXPECT_EQ(slim::rounded(x, grid.format), nearest(grid, x)) << x;
      EXPECT_EQ(slim::rounded(x, Dtype::f32), x);
      EXPECT_EQ(slim::ulp(x, grid.format), spacing(grid, x)) << x;
    }
    EXPECT_TRUE(std::isnan(slim::rounded(std::nanf(""), grid.format)));
    EXPECT_EQ(slim::rounded(INFINITY, grid.format), INFINITY);
  }
}

TEST(Rounded24, AddsEightBitsOfWhatRoundingMisses) {
  for (const Grid& grid : kGrids)
    for (const float x : samples(grid)) {
      const double high = nearest(grid, x), step = spacing(grid, high) / 256;
      const double have = slim::rounded24(x, grid.format);
      if (!std::isfinite(high)) {
        EXPECT_EQ(have, high);
        continue;
      }
      const double low = std::min(std::nearbyint((x - high) / step), 127.0);
      // high + low is a number of 7 + 8 or 10 + 8 bits: float32 holds it, subnormal ones too.
      EXPECT_EQ(have, static_cast<double>(static_cast<float>(high + low * step))) << x;
      EXPECT_LE(std::abs(have - x), step * (low == 127 ? 1.0 : 0.5) + 0x1p-149) << x;
    }
}

/// Numbers and weights on grids so coarse that float32 makes no error: every way to sum agrees.
struct Exact {
  at::Tensor rows{}, shaping{};
};
Exact exact_case(int64_t n, int64_t width, Dtype format, unsigned seed) {
  std::mt19937 random(seed);
  const double grain = format == Dtype::bf16 ? 0x1p-12 : 0x1p-14;
  Exact one{.rows = gaussian(n, width, seed), .shaping = gaussian(width, width, seed)};
  for (int64_t i = 0; i < one.rows.numel(); ++i) {
    double& x = one.rows.data_ptr<double>()[i];
    x = std::copysign(1.25 + 0.5 * std::floor(double(random()) * 0x1p-32 / grain) * grain, x);
  }
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < width; ++i)
      one.shaping[j][i] = i == j ? 1 : i > j ? 0 : (int(random() % 5) - 2) / 8.0;
  return one;
}
/// One feature after the other, the last first, in double.
at::Tensor shaped_by_definition(const Exact& one, Dtype format) {
  const int64_t n = one.rows.size(0), width = one.rows.size(1);
  at::Tensor out = one.rows.clone();
  std::vector<double> error(static_cast<size_t>(width));
  for (int64_t r = 0; r < n; ++r)
    for (int64_t j = width - 1; j >= 0; --j) {
      const double* const k = one.rows.data_ptr<double>() + r * width;
      double target = k[j];
      for (int64_t i = j + 1; i < width; ++i)
        target -= one.shaping.data_ptr<double>()[i * width + j] * error[static_cast<size_t>(i)];
      const double rounded = rounded_to(target, digits_of(format));
      error[static_cast<size_t>(j)] = rounded - k[j];
      out.data_ptr<double>()[r * width + j] = rounded;
    }
  return out;
}

TEST(RoundShaped, FollowsItsDefinitionFeatureByFeature) {
  for (const Dtype format : {Dtype::bf16, Dtype::f16})
    for (const int64_t width : {1, 2, 63, 64, 65, 150}) {
      const Exact one = exact_case(21, width, format, 200 + unsigned(width));
      at::Tensor rows = one.rows.to(at::kFloat);
      slim::round_shaped(rows, one.shaping.to(at::kFloat).contiguous(), format);
      EXPECT_TRUE(at::equal(rows.to(at::kDouble), shaped_by_definition(one, format)))
          << width << " numbers in " << name_of(format) << ", seed " << 200 + width;
    }
}

/// One layer of 128 Gaussian weights each way, 4096 white rows; seeded.
const Example& example() {
  static const Example one = Example::random(128, 4, 4096, 301);
  return one;
}

TEST(RoundShaped, CostsWhatItsLawSays) {
  const Example& e = example();
  for (const Dtype format : {Dtype::bf16, Dtype::f16}) {
    const slim::Analysis analysis = e.analysis(format);
    const at::Tensor map = analysis.base().values.map,
                     keys = at::mm(e.inputs.held_out, e.weights.key);
    const slim::Shaping s =
        slim::shaping_of(e.weights.key, map, e.weights.value, e.inputs.covariance);
    at::Tensor rows = keys.to(at::kFloat);
    slim::round_shaped(rows, s.lower.to(at::kFloat).contiguous(), format);
    EXPECT_TRUE(at::equal(rows, rounded_to(rows.to(at::kDouble), format).to(at::kFloat)))
        << "numbers of the grid";
    const at::Tensor error = rows.to(at::kDouble) - keys;
    // error L has one column per rounding: t^_j - t_j.  So t = rounded - error L.
    const at::Tensor rounding = at::mm(error, s.lower), target = rows.to(at::kDouble) - rounding;
    double cost = 0, law = 0;
    for (int64_t r = 0; r < error.size(0); ++r)
      for (int64_t j = 0; j < error.size(1); ++j) {
        const double d = s.cost.data_ptr<double>()[j];
        cost += d * std::pow(rounding.data_ptr<double>()[r * error.size(1) + j], 2);
        law += d *
               std::pow(slim::ulp(target.data_ptr<double>()[r * error.size(1) + j], format), 2) /
               12;
      }
    EXPECT_NEAR(cost / law, 1, 0.15) << name_of(format) << ", seed 301";
    const slim::Candidate shaped = analysis.make(Mode::keys_shaped);
    EXPECT_NEAR(std::sqrt(cost / double(error.size(0))) / shaped.predicted, 1, 0.15);
    // Values are a part of that cost; naive rounding does much worse.
    EXPECT_LE(shaped.value_error, shaped.predicted * 1.15);
    EXPECT_LE(shaped.value_error, analysis.make(Mode::keys).value_error / 2);
  }
}

TEST(RowMaker, ARowDoesNotDependOnItsPass) {
  const Example& e = example();
  const at::Tensor x = e.inputs.held_out.narrow(0, 0, 40).to(at::kFloat).contiguous();
  const int threads = at::get_num_threads();
  for (const auto& [mode, format] :
       {std::pair{Mode::keys, Dtype::f32}, std::pair{Mode::keys24, Dtype::bf16},
        std::pair{Mode::keys_shaped_side, Dtype::bf16}, std::pair{Mode::keys_basis, Dtype::f16}}) {
    const slim::Candidate made = e.analysis(format).make(mode, 8);
    const slim::RowMaker maker(made.factors, format);
    const slim::RowMaker::Rows all = maker.make(x);
    for (const int64_t length : {1, 3, 16, 17, 40})
      for (const int64_t shift : {0, 1, 5, 23}) {
        at::set_num_threads(length == 16 ? 1 : threads);
        for (int64_t first = shift; first < 40; first += length) {
          const int64_t n = std::min(length, 40 - first);
          const slim::RowMaker::Rows some = maker.make(x.narrow(0, first, n));
          EXPECT_TRUE(at::equal(some.row, all.row.narrow(0, first, n)))
              << slim::name_of(mode) << ": rows " << first << " + " << n;
          EXPECT_EQ(some.side.defined(), all.side.defined());
          if (all.side.defined()) {
            EXPECT_TRUE(at::equal(some.side, all.side.narrow(0, first, n)))
                << slim::name_of(mode) << ": side rows " << first << " + " << n;
          }
        }
      }
  }
  at::set_num_threads(threads);
}

TEST(SideCache, ErrorsFallWithItsSizeToTheRoundingOfWhatIsLost) {
  const Example& e = example();
  const slim::Analysis analysis = e.analysis(Dtype::bf16);
  const double plain = analysis.make(Mode::keys).value_error;
  double last = plain;
  for (const int64_t side : {1, 2, 4, 8, 16, 32, 64, 127}) {
    const slim::Candidate made = analysis.make(Mode::keys_side, side);
    EXPECT_LE(made.value_error, last) << side;
    EXPECT_NEAR(made.value_error / made.predicted, 1, 0.1) << side;
    last = made.value_error;
  }
  const slim::Candidate full = analysis.make(Mode::keys_side, 128);
  EXPECT_LE(full.value_error, last);
  EXPECT_NEAR(full.value_error / (analysis.rounding() * plain), 1, 0.2) << "seed 301";
}

TEST(SideCache, LeavesTheGainOfItsLaw) {
  const int64_t d = 512;
  const Example e = Example::random(d, 4, 4 * d, 311);
  const slim::Analysis analysis = e.analysis(Dtype::f16);
  for (const int64_t part : {32, 16, 8}) {
    const double gain = analysis.make(Mode::keys_side, d / part).value_error / analysis.rounding();
    EXPECT_NEAR(gain / (0.62 * std::sqrt(double(part))), 1, 0.15) << "e / " << part << ", seed 311";
  }
}

TEST(Keys24, LosesA256thOfWhatKeysLose) {
  for (const Dtype format : {Dtype::bf16, Dtype::f16}) {
    const slim::Analysis analysis = example().analysis(format);
    const slim::Candidate made = analysis.make(Mode::keys24);
    const double law = analysis.rounding() * analysis.base().gain / 256;
    EXPECT_NEAR(made.predicted / law, 1, 1e-6);
    EXPECT_NEAR(made.value_error / law, 1, 0.1) << name_of(format);
    EXPECT_DOUBLE_EQ(made.share, 0.75);
  }
}

TEST(Klt, IsAsGoodAsADenseCache) {
  Example e = example();
  e.site.rotary = slim::Rotary::none;
  // Inputs whose strong directions are few: the hard case of a K-cache.
  at::Tensor scale = gaussian(1, 128, 320);
  for (int64_t j = 0; j < 128; ++j) scale[0][j] = 1 / (1.0 + static_cast<double>(j));
  e.see(gaussian(4096, 128, 321) * scale);
  for (const Dtype format : {Dtype::bf16, Dtype::f16}) {
    const slim::Analysis analysis = e.analysis(format);
    const slim::Candidate made = analysis.make(Mode::klt);
    EXPECT_NEAR(made.predicted / analysis.rounding(), 1, 0.02) << "gain, seeds 301, 321";
    EXPECT_NEAR(made.value_error / analysis.rounding(), 1, 0.1);
  }
}

}  // namespace
}  // namespace kvlab::test
