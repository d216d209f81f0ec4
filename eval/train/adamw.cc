#include "eval/train/adamw.h"

#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace kvlab {
namespace {

bool fits_any(const ParameterRule& rule, const std::string& name) {
  return std::ranges::any_of(rule.match, [&](const auto& pattern) { return fits(pattern, name); });
}

}  // namespace

AdamW::AdamW(std::vector<NamedParameter> parameters, OptimiserConfig config)
    : parameters_(std::move(parameters)), config_(std::move(config)) {
  for (const ParameterRule& rule : config_.rules) groups_.push_back({.rule = rule});
  groups_.push_back({.rule = {.weight_decay = config_.weight_decay}});
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto group = std::find_if(groups_.begin(), groups_.end() - 1, [&](const Group& g) {
      return fits_any(g.rule, parameters_[i].name);
    });
    group->members.push_back(i);
    parameters_[i].value.set_requires_grad(!group->rule.frozen);
    mean_.push_back(at::zeros_like(parameters_[i].value));
    square_.push_back(at::zeros_like(parameters_[i].value));
  }
  for (size_t i = 0; i + 1 < groups_.size(); ++i)
    KVLAB_REQUIRE(
        !groups_[i].members.empty(), "E_CONFIG", "train: optimiser group ", i, " (`",
        groups_[i].rule.match.empty() ? "" : printable(groups_[i].rule.match[0]),
        "`) fits no parameter that an earlier group has not; parameters are called like `",
        parameters_[0].name, "`");
}

double AdamW::clip_gradients() {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const NamedParameter& p : parameters_)
    if (p.value.grad().defined()) gradients.push_back(p.value.grad());
  if (gradients.empty()) return 0;
  const std::vector<at::Tensor> norms = at::_foreach_norm(gradients, 2);
  const double norm = at::stack(norms).to(at::kDouble).norm().item<double>();
  if (config_.clip > 0 && std::isfinite(norm) && norm > config_.clip)
    for (at::Tensor& gradient : gradients) gradient.mul_(config_.clip / norm);
  return norm;
}

void AdamW::step(double learning_rate) {
  const c10::NoGradGuard no_grad;
  ++steps_;
  for (const Group& group : groups_) {
    std::vector<at::Tensor> values, gradients, means, squares, counts;
    if (group.rule.frozen) continue;
    for (const size_t i : group.members) {
      if (!parameters_[i].value.grad().defined()) continue;
      values.push_back(parameters_[i].value);
      gradients.push_back(parameters_[i].value.grad());
      means.push_back(mean_[i]);
      squares.push_back(square_[i]);
      counts.push_back(
          at::empty({}, mean_[i].options().dtype(at::kFloat)).fill_(static_cast<double>(steps_)));
    }
    if (values.empty()) continue;
    at::_fused_adamw_(values, gradients, means, squares, {}, counts,
                      learning_rate * group.rule.learning_rate, config_.beta1, config_.beta2,
                      group.rule.weight_decay, config_.epsilon, false, false);
  }
  for (NamedParameter& p : parameters_) p.value.mutable_grad().reset();
}

std::vector<NamedParameter> AdamW::state() const {
  std::vector<NamedParameter> state = parameters_;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    state.push_back({"adamw.mean." + parameters_[i].name, mean_[i]});
    state.push_back({"adamw.square." + parameters_[i].name, square_[i]});
  }
  return state;
}

}  // namespace kvlab
