#pragma once
// AdamW (arXiv 1711.05101) over groups of named parameters.

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "eval/train/train_config.h"

namespace kvlab {

struct NamedParameter {
  std::string name{};
  at::Tensor value{};  // a leaf
};

class AdamW {
 public:
  /// Gives every parameter the first rule that fits its name, and lets autograd follow those that
  /// are not frozen.  E_CONFIG: a rule that fits no parameter.
  AdamW(std::vector<NamedParameter> parameters, OptimiserConfig config);

  /// Euclidean norm of all gradients together; they are scaled so that it is at most `clip`.
  /// NaN and infinity come back as they are, with the gradients left alone.
  double clip_gradients();

  /// One step from the gradients, which are then gone.  With m, v the running means of g and g^2,
  /// t the number of the step from 1 and r = learning_rate * the group's:
  ///   w -= r weight_decay w;  w -= r (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
  void step(double learning_rate);
  int64_t steps() const { return steps_; }

  /// Everything a later step depends on, by name: parameters, "adamw.mean.NAME" and
  /// "adamw.square.NAME".
  std::vector<NamedParameter> state() const;
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  struct Group {
    ParameterRule rule{};
    std::vector<size_t> members{};
  };
  std::vector<NamedParameter> parameters_;
  std::vector<at::Tensor> mean_{}, square_{};
  std::vector<Group> groups_{};
  OptimiserConfig config_;
  int64_t steps_ = 0;
};

}  // namespace kvlab
