#pragma once
// The training loop: gradients of a loss, clipped, AdamW, a schedule, a log, checkpoints.  It knows
// nothing of what it trains.

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/train/adamw.h"
#include "eval/train/train_config.h"

namespace kvlab {

/// What is trained.
class Trainee {
 public:
  virtual ~Trainee() = default;
  /// Leaves, in a fixed order, with distinct names.
  virtual std::vector<NamedParameter> parameters() = 0;
  /// A step's gradient is the sum of those of its parts' losses.
  virtual int parts(int64_t step) = 0;
  /// A pure function of parameters, step and part.
  virtual at::Tensor loss(int64_t step, int part) = 0;
  /// Numbers of a look at held-out data, {"text_loss": 2.1, ...}.
  virtual Json validate() = 0;
  virtual int64_t tokens(int64_t step) = 0;
  /// Floating-point operations that a step's products take, gradients included.
  virtual double operations(int64_t step) = 0;
};

struct LoopOptions {
  OptimiserConfig optimiser{};
  Schedule schedule{};  // with the number of steps
  std::filesystem::path directory{};
  int64_t checkpoint_every = 0, validate_every = 0;
  Json identity{};             // a checkpoint made with another one is refused
  double peak_operations = 0;  // per second, of this machine; 0: unknown
};

/// What the loop says of each step.
struct StepReport {
  int64_t step = 0, steps = 0;  // done, of all
  double loss = 0, tokens_per_second = 0, peak_share = 0, seconds_left = 0;
  const Json* validation = nullptr;  // the latest
};

struct LoopObserver {
  std::function<void(const StepReport&)> stepped{};
  std::function<void(const Json&)> validated{};  // the log is written by then
  std::function<bool()> should_stop{};
};

struct LoopResult {
  int64_t steps = 0;
  bool stopped = false;  // because the observer said so; a checkpoint was written
  Json validation{};     // the last
};

/// Trains to the end, from the checkpoint in `directory` where there is one.  The directory holds
/// checkpoint.safetensors and log.jsonl: a line per step, {"step", "tokens", "loss",
/// "learning_rate", "gradient_norm", "timing": {...}}, and one per validation, {"step",
/// "validation", "timing"}.  On the CPU, with as many threads, all but "timing" is the same however
/// often the run was interrupted.  E_NONFINITE: the loss or its gradient is not a number;
/// E_IDENTITY: the checkpoint is of another configuration.
LoopResult run_loop(Trainee& trainee, const LoopOptions& options, const LoopObserver& observer);

}  // namespace kvlab
