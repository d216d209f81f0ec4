#include "eval/train/loop.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "core/files.h"
#include "eval/train/checkpoint.h"
#include "eval/train/train_log.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::Scratch;

/// Pulls two weights towards places that depend on the step.
class Springs final : public Trainee {
 public:
  std::vector<NamedParameter> parameters() override { return {{"left", left_}, {"right", right_}}; }
  int parts(int64_t) override { return 2; }
  at::Tensor loss(int64_t step, int part) override {
    if (step == breaks_at) return (left_ * INFINITY).sum();
    const double place = std::sin(static_cast<double>(step + 1));
    return part == 0 ? (left_ - place).square().sum() : (right_ * left_ + place).square().sum();
  }
  Json validate() override { return {{"left", left_.detach().sum().item<double>()}}; }
  int64_t tokens(int64_t step) override { return 10 + step % 2; }
  double operations(int64_t) override { return 1; }

  int64_t breaks_at = -1;

 private:
  at::Tensor left_ = at::empty({3}, at::kFloat).fill_(1), right_ = left_.clone();
};

LoopOptions options_in(const Scratch& folder, int64_t steps = 20) {
  return {.optimiser = {.learning_rate = 0.05, .clip = 1},
          .schedule = {.warmup_steps = 3, .steps = steps},
          .directory = folder.path(),
          .checkpoint_every = 4,
          .validate_every = 5,
          .identity = {{"springs", steps}}};
}

std::vector<Json> log_of(const Scratch& folder) {
  std::vector<Json> lines = read_log(folder / "log.jsonl");
  for (Json& line : lines) line.erase("timing");
  return lines;
}

/// As a process that is killed: nothing is said to the loop, the log may be ahead of the
/// checkpoint.
struct Killed {};
void run_until(int64_t step, const Scratch& folder) {
  Springs springs;
  const LoopObserver kill{.stepped = [step](const StepReport& report) {
    if (report.step == step) throw Killed{};
  }};
  EXPECT_THROW(run_loop(springs, options_in(folder), kill), Killed);
}

TEST(Loop, ArrivesAtTheSameBitsHoweverOftenItIsStopped) {
  const Scratch whole, pieces;
  Springs springs, others;
  run_loop(springs, options_in(whole), {});
  for (const int64_t step : {1, 3, 4, 5, 9, 10, 13, 19}) run_until(step, pieces);
  run_loop(others, options_in(pieces), {});
  EXPECT_EQ(log_of(whole), log_of(pieces));
  EXPECT_EQ(read_file(whole / "checkpoint.safetensors", 1 << 20),
            read_file(pieces / "checkpoint.safetensors", 1 << 20));
  EXPECT_EQ(log_of(whole).size(), 20u + 4u);  // steps, validations
}

TEST(Loop, StopsWhenItIsToldToAndGoesOnFromThere) {
  const Scratch whole, pieces;
  Springs springs, one, two;
  run_loop(springs, options_in(whole), {});
  int64_t last = 0;
  const LoopResult stopped = run_loop(one, options_in(pieces),
                                      {.stepped = [&](const StepReport& r) { last = r.step; },
                                       .should_stop = [&] { return last == 6; }});
  EXPECT_TRUE(stopped.stopped);
  EXPECT_EQ(stopped.steps, 6);
  int64_t first = 0;
  run_loop(two, options_in(pieces), {.stepped = [&](const StepReport& r) {
             if (first == 0) first = r.step;
           }});
  EXPECT_EQ(first, 7);
  EXPECT_EQ(log_of(whole), log_of(pieces));
}

TEST(Loop, LearnsAndCounts) {
  const Scratch folder;
  Springs springs;
  const LoopResult result = run_loop(springs, options_in(folder), {});
  const std::vector<Json> log = log_of(folder);
  EXPECT_EQ(log.back().at("step"), 20);
  EXPECT_EQ(log.back().at("validation"), result.validation);
  EXPECT_EQ(log[0].at("tokens"), 10);
  EXPECT_EQ(log[1].at("tokens"), 21);
  EXPECT_DOUBLE_EQ(log[0].at("learning_rate"), 0.05 / 3);
  EXPECT_LT(log[18].at("loss").get<double>(), log[0].at("loss").get<double>());
}

TEST(Loop, RefusesACheckpointOfAnotherConfiguration) {
  const Scratch folder;
  run_until(6, folder);
  Springs springs;
  LoopOptions options = options_in(folder);
  options.identity = {{"springs", 21}};
  EXPECT_REFUSED("E_IDENTITY", "`/springs` differs", run_loop(springs, options, {}).steps);
}

TEST(Loop, EndsAtALossThatIsNotANumberAndKeepsTheCheckpointBefore) {
  const Scratch folder;
  Springs springs;
  springs.breaks_at = 6;
  EXPECT_REFUSED("E_NONFINITE", "step 7", run_loop(springs, options_in(folder), {}).steps);
  Springs healed;
  EXPECT_EQ(run_loop(healed, options_in(folder), {}).steps, 20);
}

TEST(Checkpoint, IsRefusedWhenItIsCutOffOrOfSomethingElse) {
  const Scratch folder;
  run_until(6, folder);
  const std::filesystem::path path = folder / "checkpoint.safetensors";
  const std::string bytes = read_file(path, 1 << 20);
  const auto run = [&] {
    Springs springs;
    return run_loop(springs, options_in(folder), {}).steps;
  };
  for (const size_t length : {size_t{0}, size_t{5}, bytes.size() / 2, bytes.size() - 1}) {
    write_file(path, std::string_view(bytes).substr(0, length));
    EXPECT_REFUSED("E_FORMAT", "checkpoint.safetensors", run());
  }
  const at::Tensor other = at::empty({2}, at::kFloat).zero_();
  save_checkpoint(path, {{"left", other}, {"right", other}}, {{"step", 1}});
  EXPECT_REFUSED("E_SHAPE", "`left`", run());
  save_checkpoint(path, {{"weights", other}}, {{"step", 1}});
  EXPECT_REFUSED("E_WEIGHT", "left", run());
  write_file(path, bytes);
  EXPECT_EQ(run(), 20);
}

TEST(TrainLog, ForgetsWhatACrashLeftHalfWritten) {
  const Scratch folder;
  run_until(6, folder);
  append_file(folder / "log.jsonl", "{\"step\": 7, \"lo");
  Springs springs, others;
  run_loop(springs, options_in(folder), {});
  const Scratch whole;
  run_loop(others, options_in(whole), {});
  EXPECT_EQ(log_of(whole), log_of(folder));
}

}  // namespace
}  // namespace kvlab
