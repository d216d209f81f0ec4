// The loops of training on every instruction set, against their definitions.

#include "kernels/train/train_loops.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "kernels/isa.h"
#include "tests/kernels/train/definitions.h"

namespace kvlab::test {
namespace {

constexpr double kHalf = 0x1p-8;     // relative error of rounding to bfloat16
constexpr double kSingle = 0x1p-24;  // and to float32

class TrainLoopsOf : public testing::TestWithParam<Isa> {
 protected:
  const TrainLoops& loops_ = train_loops(GetParam());
};

TEST_P(TrainLoopsOf, NormIsItsFormulaBothWays) {
  for (const int64_t width : {1, 15, 16, 67, 256})
    for (const bool one_plus : {false, true}) {
      constexpr int64_t kRows = 3;
      const auto n = static_cast<size_t>(kRows * width), w = static_cast<size_t>(width);
      const auto x = random_floats(n, 1, 1), weight = random_floats(w, 1, 2),
                 dsum = random_floats(n, 1, 3);
      const Halves delta = random_halves(n, 1, 4), dout = random_halves(n, 1, 5);
      std::vector<float> sum(n), scale(kRows), dx(n), dweight(w, 0.5f);
      Halves out(n), ddelta(n);
      loops_.norm({x.data(), delta.data(), weight.data(), one_plus, 1e-6f, kRows, width, sum.data(),
                   scale.data(), out.data()});
      loops_.norm_backward({sum.data(), weight.data(), one_plus, scale.data(), dout.data(),
                            dsum.data(), kRows, width, dx.data(), ddelta.data(), dweight.data()});
      const double sums = static_cast<double>(width + 8) * kSingle;  // of `width` float32 terms
      Doubles want_dweight(w, 0.5), dweight_mass(w, 0.5);
      for (int64_t r = 0; r < kRows; ++r) {
        Doubles s(w), gain(w);
        double squares = 0, along = 0, along_mass = 0;
        for (size_t c = 0; c < w; ++c) {
          const size_t at = static_cast<size_t>(r) * w + c;
          s[c] = double{x[at]} + value_of(delta[at]);
          gain[c] = weight[c] + (one_plus ? 1.0 : 0.0);
          squares += s[c] * s[c];
          EXPECT_EQ(sum[at], static_cast<float>(s[c]));
        }
        const double want_scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-6);
        EXPECT_NEAR(scale[static_cast<size_t>(r)], want_scale, want_scale * sums);
        for (size_t c = 0; c < w; ++c) {
          const double d = value_of(dout[static_cast<size_t>(r) * w + c]) * gain[c] * s[c];
          along += d;
          along_mass += std::abs(d);
        }
        const double part = want_scale * want_scale * want_scale / static_cast<double>(width);
        for (size_t c = 0; c < w; ++c) {
          const size_t at = static_cast<size_t>(r) * w + c;
          const double d = value_of(dout[at]), o = s[c] * want_scale * gain[c];
          EXPECT_NEAR(value_of(out[at]), o, std::abs(o) * (kHalf + 4 * sums));
          const double want = dsum[at] + want_scale * gain[c] * d - s[c] * along * part;
          const double mass = std::abs(dsum[at]) + std::abs(want_scale * gain[c] * d) +
                              std::abs(s[c]) * along_mass * part;
          EXPECT_NEAR(dx[at], want, 8 * sums * mass);
          EXPECT_NEAR(value_of(ddelta[at]), want, kHalf * std::abs(want) + 9 * sums * mass);
          want_dweight[c] += d * s[c] * want_scale;
          dweight_mass[c] += std::abs(d * s[c] * want_scale);
        }
      }
      for (size_t c = 0; c < w; ++c)
        EXPECT_NEAR(dweight[c], want_dweight[c], 4 * sums * dweight_mass[c]) << width;
    }
}

TEST_P(TrainLoopsOf, NormWithoutADeltaLeavesTheSumAlone) {
  const auto x = random_floats(32, 1, 1), weight = random_floats(16, 1, 2);
  std::vector<float> scale(2);
  Halves out(32), same(32);
  loops_.norm({.x = x.data(),
               .weight = weight.data(),
               .eps = 1e-6f,
               .rows = 2,
               .width = 16,
               .scale = scale.data(),
               .out = out.data()});
  std::vector<float> sum(32);
  const Halves zero(32, 0);
  loops_.norm({.x = x.data(),
               .delta = zero.data(),
               .weight = weight.data(),
               .eps = 1e-6f,
               .rows = 2,
               .width = 16,
               .sum = sum.data(),
               .scale = scale.data(),
               .out = same.data()});
  EXPECT_EQ(out, same);
}

TEST_P(TrainLoopsOf, GateIsItsFormulaBothWays) {
  for (const int64_t width : {1, 16, 45}) {
    constexpr int64_t kRows = 2;
    const auto w = static_cast<size_t>(width);
    Halves both = random_halves(2 * w * kRows, 3, 1);
    both[0] = half_of(-90), both[2 * w] = half_of(90);  // where e^x leaves float32
    const Halves dout = random_halves(w * kRows, 1, 2);
    Halves out(w * kRows), dboth(2 * w * kRows);
    loops_.gate({.gate_up = both.data(), .rows = kRows, .width = width, .out = out.data()});
    loops_.gate_backward({.gate_up = both.data(),
                          .dout = dout.data(),
                          .rows = kRows,
                          .width = width,
                          .dgate_up = dboth.data()});
    for (size_t r = 0; r < kRows; ++r)
      for (size_t c = 0; c < w; ++c) {
        const double g = value_of(both[2 * w * r + c]), u = value_of(both[2 * w * r + w + c]);
        const double d = value_of(dout[w * r + c]), s = 1 / (1 + std::exp(-g));
        // exp2 of float32: 2^-21; |x| e^-|x| <= 1 keeps what it does to the argument small.
        const double fast = 0x1p-19 * (1 + std::abs(g));
        // A sigmoid is never below 2^-126.
        const double least = 0x1p-125 * (1 + std::abs(g)) * (1 + std::abs(u)) * (1 + std::abs(d));
        const auto near = [&](uint16_t got, double want, double mass) {
          EXPECT_NEAR(value_of(got), want, kHalf * std::abs(want) + fast * mass + least)
              << g << " " << u << " " << d;
        };
        near(out[w * r + c], g * s * u, std::abs(g * s * u));
        near(dboth[2 * w * r + w + c], d * g * s, std::abs(d * g * s));
        near(dboth[2 * w * r + c], d * u * s * (1 + g * (1 - s)),
             std::abs(d * u * s) * (1 + std::abs(g)));
      }
  }
}

TEST_P(TrainLoopsOf, LossIsItsFormulaBothWays) {
  for (const int64_t width : {1, 16, 77, 500}) {
    constexpr size_t kRows = 3;
    const auto w = static_cast<size_t>(width);
    const Halves given = random_halves(w * kRows, 4, 1);
    const int64_t targets[kRows] = {0, width / 2, width - 1};
    const float weights[kRows] = {1, 0, 0.25f};
    double want = 0;
    Halves gradient = given, alone = given;
    const double lost = loops_.loss({.logits = gradient.data(),
                                     .targets = targets,
                                     .weights = weights,
                                     .rows = kRows,
                                     .width = width,
                                     .gradient = true});
    EXPECT_EQ(loops_.loss({.logits = alone.data(),
                           .targets = targets,
                           .weights = weights,
                           .rows = kRows,
                           .width = width}),
              lost);
    EXPECT_EQ(alone, given);
    for (size_t r = 0; r < kRows; ++r) {
      double top = -1e300, sum = 0;
      for (size_t c = 0; c < w; ++c) top = std::max(top, value_of(given[r * w + c]));
      for (size_t c = 0; c < w; ++c) sum += std::exp(value_of(given[r * w + c]) - top);
      const auto target = static_cast<size_t>(targets[r]);
      want += weights[r] * (top + std::log(sum) - value_of(given[r * w + target]));
      for (size_t c = 0; c < w; ++c) {
        const double p = std::exp(value_of(given[r * w + c]) - top) / sum;
        const double d = weights[r] * (p - (c == target ? 1 : 0));
        const double fast = 0x1p-18 + static_cast<double>(width) * kSingle;
        EXPECT_NEAR(value_of(gradient[r * w + c]), d,
                    kHalf * std::abs(d) + fast * (p + (c == target ? 1 : 0)));
      }
    }
    EXPECT_NEAR(lost, want, 3 * (0x1p-18 + static_cast<double>(width) * kSingle) * (1 + want));
  }
}

struct AlignedFree {
  void operator()(u8* p) const { std::free(p); }
};

/// Query heads of one kv head, side by side as a fused projection leaves them: [group q | k | v].
class HeadsOfAttention {
 public:
  HeadsOfAttention(int64_t tokens, int64_t dim, int64_t group)
      : tokens_(tokens), dim_(dim), group_(group), stride_((group + 2) * dim) {
    given_ = random_halves(static_cast<size_t>(tokens * stride_), 1, 7);
    dout_ = random_halves(static_cast<size_t>(tokens * group * dim), 1, 8);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t c = 0; c < dim / 2; ++c) {
        const double angle = static_cast<double>(t) * std::pow(1e4, -2.0 * static_cast<double>(c) /
                                                                        static_cast<double>(dim));
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
  }

  void run(const TrainLoops& loops) {
    const auto bytes = static_cast<size_t>(train_attention_bytes(tokens_, dim_) + 63) / 64 * 64;
    const std::unique_ptr<u8, AlignedFree> work(static_cast<u8*>(std::aligned_alloc(64, bytes)));
    out_.assign(dout_.size(), 0);
    gradient_.assign(given_.size(), 0);
    lse_.assign(static_cast<size_t>(group_ * tokens_), 0);
    const int64_t k = group_ * dim_, v = k + dim_;
    const TrainAttention call{.tokens = tokens_,
                              .head_dim = dim_,
                              .group = group_,
                              .queries = given_.data(),
                              .keys = given_.data() + k,
                              .values = given_.data() + v,
                              .stride = stride_,
                              .cos = cos_.data(),
                              .sin = sin_.data(),
                              .scale = static_cast<float>(scale()),
                              .out = out_.data(),
                              .out_stride = group_ * dim_,
                              .lse = lse_.data(),
                              .dout = dout_.data(),
                              .dqueries = gradient_.data(),
                              .dkeys = gradient_.data() + k,
                              .dvalues = gradient_.data() + v,
                              .work = work.get()};
    loops.attention(call);
    loops.attention_backward(call);
  }

  void compare() const {
    Doubles dk(n()), dv(n()), dk_mass(n()), dv_mass(n());
    double most = 0;
    for (int64_t h = 0; h < group_; ++h) {
      HeadOfAttention head = definition(h);
      head.run();
      // Queries and keys are rounded after they are turned: each logit is off by at most two
      // roundings of its terms, each probability by e^(twice that), then rounded itself.
      const double p = std::expm1(2 * 2.1 * kHalf * head.largest_logit_mass) + 1.1 * kHalf;
      most = std::max(most, p);
      for (int64_t t = 0; t < tokens_; ++t) {
        EXPECT_NEAR(lse_[static_cast<size_t>(h * tokens_ + t)], head.lse2[static_cast<size_t>(t)],
                    1.5 * (2.1 * kHalf * head.largest_logit_mass + 0x1p-18));
        for (int64_t c = 0; c < dim_; ++c) {
          const auto at = static_cast<size_t>(t * dim_ + c);
          EXPECT_NEAR(value_of(out_[static_cast<size_t>(t * group_ * dim_ + h * dim_ + c)]),
                      head.out[at], (p + 1.1 * kHalf) * head.out_mass[at]);
          // dS holds P, dP less <out, dout> of the rounded output, and is rounded; the turned key
          // it meets is rounded, and so is the result.
          EXPECT_NEAR(value_of(gradient_[static_cast<size_t>(t * stride_ + h * dim_ + c)]),
                      head.dq[at], (2 * p + 5 * kHalf) * head.dq_mass[at])
              << tokens_ << " " << dim_ << " " << h << " " << t;
          dk[at] += head.dk[at], dk_mass[at] += head.dk_mass[at];
          dv[at] += head.dv[at], dv_mass[at] += head.dv_mass[at];
        }
      }
    }
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t c = 0; c < dim_; ++c) {
        const auto at = static_cast<size_t>(t * dim_ + c);
        const auto k = static_cast<size_t>(t * stride_ + group_ * dim_ + c);
        EXPECT_NEAR(value_of(gradient_[k]), dk[at], (2 * most + 5 * kHalf) * dk_mass[at]);
        EXPECT_NEAR(value_of(gradient_[k + static_cast<size_t>(dim_)]), dv[at],
                    (most + 2 * kHalf) * dv_mass[at]);
      }
  }

 private:
  size_t n() const { return static_cast<size_t>(tokens_ * dim_); }
  double scale() const { return 0.5 / static_cast<double>(dim_); }
  Doubles part(const Halves& all, int64_t stride, int64_t first) const {
    Doubles rows;
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t c = 0; c < dim_; ++c)
        rows.push_back(value_of(all[static_cast<size_t>(t * stride + first + c)]));
    return rows;
  }
  HeadOfAttention definition(int64_t h) const {
    HeadOfAttention head;
    head.tokens = tokens_, head.dim = dim_, head.scale = scale();
    head.q = part(given_, stride_, h * dim_);
    head.k = part(given_, stride_, group_ * dim_);
    head.v = part(given_, stride_, (group_ + 1) * dim_);
    head.dout = part(dout_, group_ * dim_, h * dim_);
    head.cos.assign(cos_.begin(), cos_.end());
    head.sin.assign(sin_.begin(), sin_.end());
    return head;
  }

  int64_t tokens_, dim_, group_, stride_;
  Halves given_, dout_, out_, gradient_;
  std::vector<float> cos_, sin_, lse_;
};

TEST_P(TrainLoopsOf, AttentionIsItsFormulaBothWays) {
  if (loops_.attention == nullptr) GTEST_SKIP() << "no products of bfloat16 here";
  for (const int64_t tokens : {1, 4, 31, 33, 64, 65, 130})
    for (const auto& [dim, group] : {std::pair{32, 1}, {64, 4}, {96, 2}}) {
      HeadsOfAttention heads(tokens, dim, group);
      heads.run(loops_);
      heads.compare();
    }
  HeadsOfAttention widest(40, 256, 1);
  widest.run(loops_);
  widest.compare();
}

INSTANTIATE_TEST_SUITE_P(Isas, TrainLoopsOf, testing::ValuesIn(usable_isas()),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

}  // namespace
}  // namespace kvlab::test
