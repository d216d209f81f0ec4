#include "eval/train/loop.h"

#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "eval/process.h"
#include "eval/train/checkpoint.h"
#include "eval/train/train_log.h"

namespace kvlab {
namespace {

constexpr double kRememberSpeed = 0.9;  // of the speed before, in the running mean that is shown

class Loop {
 public:
  Loop(Trainee& trainee, const LoopOptions& options, const LoopObserver& observer)
      : trainee_(trainee),
        options_(options),
        observer_(observer),
        optimiser_(trainee.parameters(), options.optimiser),
        log_(options.directory / "log.jsonl") {}

  LoopResult run();

 private:
  std::filesystem::path checkpoint() const { return options_.directory / "checkpoint.safetensors"; }
  void resume();
  void save();
  void step();
  void validate();
  double gradients();
  void report(double loss, double seconds);
  bool is_due(int64_t every) const {
    return step_ % every == 0 || step_ == options_.schedule.steps;
  }

  Trainee& trainee_;
  const LoopOptions& options_;
  const LoopObserver& observer_;
  AdamW optimiser_;
  TrainLog log_;
  int64_t step_ = 0, tokens_ = 0, saved_ = -1;
  double speed_ = 0, step_seconds_ = 0;
  Json validation_{};
};

/// The first difference of two configurations, for a message.
std::string difference(const Json& have, const Json& want) {
  const Json patch = Json::diff(have, want);
  return patch.empty() ? "" : printable(patch[0].at("path").get<std::string>());
}

void Loop::resume() {
  if (!std::filesystem::exists(checkpoint())) {
    log_.keep_until(-1);
    return;
  }
  const Json about = load_checkpoint(checkpoint(), optimiser_.state());
  KVLAB_REQUIRE(about.at("identity") == options_.identity, "E_IDENTITY",
                "train: ", options_.directory.string(), " holds a run of another configuration (`",
                difference(about.at("identity"), options_.identity),
                "` differs); name another output directory, or remove it");
  step_ = saved_ = about.at("step");
  tokens_ = about.at("tokens");
  validation_ = about.at("validation");
  optimiser_.set_steps(step_);
  log_.keep_until(step_);
}

void Loop::save() {
  if (saved_ == step_) return;
  log_.flush();
  save_checkpoint(checkpoint(), optimiser_.state(),
                  {{"step", step_},
                   {"tokens", tokens_},
                   {"validation", validation_},
                   {"identity", options_.identity}});
  saved_ = step_;
}

/// Of step_, left in the parameters; returns the loss.
double Loop::gradients() {
  double loss = 0;
  for (int part = 0; part < trainee_.parts(step_); ++part) {
    const at::Tensor value = trainee_.loss(step_, part);
    value.backward();
    loss += value.item<double>();
  }
  return loss;
}

void Loop::step() {
  const double start = seconds_now();
  const double loss = gradients();
  const double norm = optimiser_.clip_gradients();
  KVLAB_REQUIRE(std::isfinite(loss) && std::isfinite(norm), "E_NONFINITE", "train: step ",
                step_ + 1, ": the loss is ", loss, ", the norm of its gradient ", norm,
                "; lower the learning rate, or lengthen the warm-up");
  const double rate = options_.optimiser.learning_rate * options_.schedule.scale(step_);
  optimiser_.step(rate);
  const double seconds = seconds_now() - start;
  const double operations = trainee_.operations(step_);
  const int64_t tokens = trainee_.tokens(step_);
  tokens_ += tokens;
  ++step_;
  Json timing{{"seconds", seconds}, {"tokens_per_s", static_cast<double>(tokens) / seconds}};
  if (options_.peak_operations > 0)
    timing["peak_share"] = operations / seconds / options_.peak_operations;
  log_.add({{"step", step_},
            {"tokens", tokens_},
            {"loss", loss},
            {"learning_rate", rate},
            {"gradient_norm", norm},
            {"timing", timing}});
  const double now = static_cast<double>(tokens) / seconds;
  speed_ = speed_ == 0 ? now : kRememberSpeed * speed_ + (1 - kRememberSpeed) * now;
  report(loss, seconds);
}

void Loop::report(double loss, double seconds) {
  if (!observer_.stepped) return;
  step_seconds_ = step_seconds_ == 0
                      ? seconds
                      : kRememberSpeed * step_seconds_ + (1 - kRememberSpeed) * seconds;
  double left = 0;  // steps to come may be longer or shorter: tokens count
  const double per_token = 1 / speed_;
  for (int64_t s = step_; s < options_.schedule.steps; ++s)
    left += static_cast<double>(trainee_.tokens(s)) * per_token;
  const double operations =
      trainee_.operations(step_ - 1) / static_cast<double>(trainee_.tokens(step_ - 1)) * speed_;
  observer_.stepped(
      {.step = step_,
       .steps = options_.schedule.steps,
       .loss = loss,
       .tokens_per_second = speed_,
       .peak_share = options_.peak_operations > 0 ? operations / options_.peak_operations : 0,
       .seconds_left = left,
       .validation = validation_.is_null() ? nullptr : &validation_});
}

void Loop::validate() {
  const double start = seconds_now();
  validation_ = trainee_.validate();
  log_.add({{"step", step_},
            {"validation", validation_},
            {"timing", {{"seconds", seconds_now() - start}}}});
  log_.flush();
  if (observer_.validated) observer_.validated(validation_);
}

LoopResult Loop::run() {
  resume();
  while (step_ < options_.schedule.steps) {
    if (observer_.should_stop && observer_.should_stop()) {
      save();
      return {.steps = step_, .stopped = true, .validation = validation_};
    }
    step();
    if (is_due(options_.validate_every)) validate();
    if (is_due(options_.checkpoint_every)) save();
  }
  return {.steps = step_, .validation = validation_};
}

}  // namespace

LoopResult run_loop(Trainee& trainee, const LoopOptions& options, const LoopObserver& observer) {
  return Loop(trainee, options, observer).run();
}

}  // namespace kvlab
