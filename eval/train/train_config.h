#pragma once
// A training run as JSON (schema kvlab-train/1), checked before anything is read or computed.
//
//   {"schema": "kvlab-train/1", "name": "ref-mha", "model": {the config.json of the model},
//    "data": {"directory": "build/corpus"},
//    "stages": [{"until_step": 3000, "sequence_length": 256, "batch_sequences": 32,
//                "shares": {"text": 0.85, "recall-256": 0.15}}],
//    "optimiser": {"learning_rate": 0.002}, "schedule": {"warmup_steps": 100}}
//
// Unknown keys are refused.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/types.h"
#include "eval/train/induction_start.h"

namespace kvlab {

/// Which batches are drawn from the step where the stage before ends to `until_step`, exclusive.
struct TrainStage {
  int64_t until_step = 0;
  int64_t sequence_length = 0;  // tokens predicted per sequence; one more is read
  int64_t batch_sequences = 0;  // per step
  int accumulate = 1;           // parts of a batch that go through the network one by one
  std::map<std::string, double> shares{};  // source -> share of sequences; they add up to 1
  double answer_weight = 1, other_weight = 1;
};

/// What the loss is divided by: the batch's tokens, or their weights.
enum class LossMean : u8 { tokens, weights };

/// Parameters whose name a pattern fits ('*': anything) and how they are trained; the first group
/// that fits a name has it.
struct ParameterRule {
  std::vector<std::string> match{};
  double learning_rate = 1;  // times the schedule's
  double weight_decay = 0;
  bool frozen = false;
};

struct OptimiserConfig {
  double learning_rate = 0;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0;  // of parameters that no rule names
  double clip = 0;          // largest global norm of the gradients; 0: none
  std::vector<ParameterRule> rules{};
};

/// learning_rate * scale(step), step from 0: rising by equal steps to 1 over `warmup_steps`, then
/// half a cosine down to `final_share` at the last step.
struct Schedule {
  int64_t warmup_steps = 0, steps = 0;
  double final_share = 0.1;
  double scale(int64_t step) const;
};

struct ValidationConfig {
  int64_t text_windows = 0, text_length = 0;
  std::vector<std::string> recall{};  // sources
  int64_t documents = 0;              // of each
};

struct TrainConfig {
  Json effective{};  // as completed
  std::string name{};
  std::filesystem::path output{}, data{};
  Json model{};  // a config.json
  double init_std = 0.02;
  double init_branches = 0;               // of what joins the residual stream: times init_std
  std::optional<Match> init_induction{};  // add_induction_heads
  std::filesystem::path
      init_from{};  // weights of this safetensors file, or directory; empty: drawn
  std::vector<TrainStage> stages{};
  LossMean loss_mean = LossMean::tokens;
  int64_t held_out_documents = 0;  // the last so many of each recall file are never trained on
  OptimiserConfig optimiser{};
  Schedule schedule{};
  ValidationConfig validation{};
  Dtype dtype = Dtype::bf16;
  uint64_t seed = 0;
  int threads = 0;
  int64_t checkpoint_every = 0, validate_every = 0;

  int64_t steps() const { return stages.back().until_step; }
  const TrainStage& stage_of(int64_t step) const;
  /// What decides the numbers: everything but where files lie and how often one looks.
  Json identity() const;
};

/// E_CONFIG, E_UNKNOWN: one sentence that names the key.
TrainConfig parse_train_config(const Json& given);

/// Whether `pattern`, in which '*' stands for anything, is all of `name`.
bool fits(std::string_view pattern, std::string_view name);

}  // namespace kvlab
