#include "eval/train/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

NamedParameter parameter(const std::string& name, std::vector<double> values) {
  const at::Tensor t = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), t.data_ptr<double>());
  return {name, t};
}

double at(const NamedParameter& p, int64_t i) { return p.value.data_ptr<double>()[i]; }

void set_gradient(NamedParameter& p, double gradient) {
  p.value.mutable_grad() = at::empty_like(p.value).fill_(gradient);
}

/// The definition, one number at a time.
struct Scalar {
  double w, m = 0, v = 0;
  void step(double g, double rate, double decay, const OptimiserConfig& c, int t) {
    m = c.beta1 * m + (1 - c.beta1) * g;
    v = c.beta2 * v + (1 - c.beta2) * g * g;
    w -= rate * decay * w;
    w -= rate * (m / (1 - std::pow(c.beta1, t))) /
         (std::sqrt(v / (1 - std::pow(c.beta2, t))) + c.epsilon);
  }
};

TEST(AdamW, IsItsDefinition) {
  const OptimiserConfig config{.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.3};
  NamedParameter w = parameter("w", {0.7, -2});
  AdamW optimiser({w}, config);
  Scalar first{0.7}, second{-2};
  for (int t = 1; t <= 5; ++t) {
    const double gradient = std::cos(t), rate = 0.1 / t;
    set_gradient(w, gradient);
    optimiser.step(rate);
    first.step(gradient, rate, 0.3, config, t);
    second.step(gradient, rate, 0.3, config, t);
    EXPECT_FALSE(w.value.grad().defined());
    EXPECT_NEAR(at(w, 0), first.w, 1e-12) << t;
    EXPECT_NEAR(at(w, 1), second.w, 1e-12) << t;
  }
  EXPECT_EQ(optimiser.steps(), 5);
}

TEST(AdamW, GivesEveryParameterTheFirstGroupThatFitsItsName) {
  NamedParameter frozen = parameter("a.gate.weight", {1}), slow = parameter("b.gate.bias", {1}),
                 usual = parameter("c.weight", {1});
  AdamW optimiser({frozen, slow, usual},
                  {.weight_decay = 0.5,
                   .rules = {{.match = {"a.*"}, .frozen = true},
                             {.match = {"*.bias", "*gate*"}, .learning_rate = 0.1}}});
  EXPECT_FALSE(frozen.value.requires_grad());
  EXPECT_TRUE(usual.value.requires_grad());
  set_gradient(slow, 1);
  set_gradient(usual, 1);
  optimiser.step(0.01);
  EXPECT_EQ(at(frozen, 0), 1);
  EXPECT_NEAR(at(slow, 0), 1 - 0.001, 1e-9);               // the first step has the rate's length
  EXPECT_NEAR(at(usual, 0), 1 - 0.01 * 0.5 - 0.01, 1e-9);  // and decays
}

TEST(AdamW, RefusesAGroupThatFitsNothing) {
  const NamedParameter w = parameter("w", {1});
  EXPECT_REFUSED("E_CONFIG", "optimiser group 1 (`gates.*`)",
                 AdamW({w}, {.rules = {{.match = {"w"}}, {.match = {"gates.*"}}}}));
}

TEST(AdamW, ClipsByTheNormOfAllGradientsTogether) {
  NamedParameter a = parameter("a", {0}), b = parameter("b", {0});
  AdamW optimiser({a, b}, {.clip = 2.5});
  set_gradient(a, 3);
  set_gradient(b, -4);
  EXPECT_DOUBLE_EQ(optimiser.clip_gradients(), 5);
  EXPECT_DOUBLE_EQ(a.value.grad().item<double>(), 1.5);
  EXPECT_DOUBLE_EQ(b.value.grad().item<double>(), -2);
  EXPECT_DOUBLE_EQ(optimiser.clip_gradients(), 2.5);  // and leaves alone what is short enough
  EXPECT_DOUBLE_EQ(a.value.grad().item<double>(), 1.5);
}

TEST(AdamW, ReportsAGradientThatIsNotANumberAndTouchesNothing) {
  NamedParameter a = parameter("a", {0});
  AdamW optimiser({a}, {.clip = 1});
  set_gradient(a, INFINITY);
  EXPECT_TRUE(std::isinf(optimiser.clip_gradients()));
}

}  // namespace
}  // namespace kvlab
