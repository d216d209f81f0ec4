#include "eval/train/train_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/schema.h"

namespace kvlab {
namespace {

constexpr const char* kSchemaText = R"({
  "schema": {"type": "string", "choices": ["kvlab-train/1"], "doc": "version of this format"},
  "name": {"type": "string", "doc": "of the model"},
  "output": {"type": "string", "default": "", "doc": "run directory; empty: build/train/<name>"},
  "model": {"type": "object", "doc": "config.json of the model"},
  "init": {"type": "object", "default": {}, "doc": "weights at the start", "fields": {
    "std": {"type": "number", "default": 0.02, "minimum": 0, "doc": "of matrices"},
    "branches": {"type": "number", "default": 0, "minimum": 0,
                 "doc": "of o_proj and down_proj: times std; 0: every block begins as the identity"},
    "induction": {"type": "string", "default": "none", "choices": ["none", "tokens", "pairs"],
                  "doc": "begin with heads that look back and match a token, or a token and a pair; added to what is drawn"},
    "from": {"type": "string", "default": "",
             "doc": "a model directory or safetensors file whose weights to start with"}}},
  "data": {"type": "object", "default": {}, "doc": "what `kvlab corpus build` wrote", "fields": {
    "directory": {"type": "string", "default": "build/corpus", "doc": "of the corpus"},
    "held_out_documents": {"type": "integer", "default": 64, "minimum": 0,
                           "doc": "last documents of each recall file, never trained on"}}},
  "loss": {"type": "object", "default": {}, "doc": "weights of cross-entropies", "fields": {
    "answer_weight": {"type": "number", "default": 1, "minimum": 0,
                      "doc": "of tokens that a recall document determines"},
    "other_weight": {"type": "number", "default": 0.1, "minimum": 0,
                     "doc": "of the other tokens of recall documents; text has 1"},
    "mean": {"type": "string", "default": "tokens", "choices": ["tokens", "weights"],
             "doc": "what the weighted sum of a batch is divided by"}}},
  "stages": {"type": "array", "items": "object", "doc": "batches, from which step to which"},
  "optimiser": {"type": "object", "doc": "AdamW", "fields": {
    "learning_rate": {"type": "number", "minimum": 0, "doc": "at the top of the schedule"},
    "beta1": {"type": "number", "default": 0.9, "minimum": 0, "maximum": 0.999999, "doc": "of the mean"},
    "beta2": {"type": "number", "default": 0.95, "minimum": 0, "maximum": 0.999999, "doc": "of the square"},
    "epsilon": {"type": "number", "default": 1e-8, "minimum": 1e-30, "doc": "beside the root"},
    "weight_decay": {"type": "number", "default": 0.1, "minimum": 0, "doc": "of matrices"},
    "clip": {"type": "number", "default": 1.0, "minimum": 0,
             "doc": "largest norm of all gradients together; 0: any"},
    "groups": {"type": "array", "items": "object",
               "default": [{"match": ["*norm.weight", "*.bias"], "weight_decay": 0}],
               "doc": "parameters that are trained otherwise; the first that fits counts"}}},
  "schedule": {"type": "object", "default": {}, "doc": "warm-up and cosine", "fields": {
    "warmup_steps": {"type": "integer", "default": 100, "minimum": 0, "doc": "rising"},
    "final_share": {"type": "number", "default": 0.1, "minimum": 0, "maximum": 1,
                    "doc": "of the learning rate at the last step"}}},
  "validation": {"type": "object", "default": {}, "doc": "what is looked at in between", "fields": {
    "text_windows": {"type": "integer", "default": 32, "minimum": 0, "doc": "of text-valid"},
    "text_length": {"type": "integer", "default": 1024, "minimum": 1, "unit": "token", "doc": "of each"},
    "recall": {"type": "array", "items": "string", "default": [], "doc": "sources"},
    "documents": {"type": "integer", "default": 32, "minimum": 1,
                  "doc": "of each source, the first of those held out"}}},
  "dtype": {"type": "string", "default": "bfloat16", "choices": ["bfloat16", "float32"],
            "doc": "of matrix products and attention; weights and optimiser are float32"},
  "seed": {"type": "integer", "default": 0, "minimum": 0, "doc": "of weights and batches"},
  "threads": {"type": "integer", "default": 0, "minimum": 0, "doc": "0: all cores"},
  "checkpoint_every": {"type": "integer", "default": 200, "minimum": 1, "unit": "step", "doc": "interval"},
  "validate_every": {"type": "integer", "default": 200, "minimum": 1, "unit": "step", "doc": "interval"}})";

constexpr const char* kStageText = R"({
  "until_step": {"type": "integer", "minimum": 1, "doc": "first step after the stage"},
  "sequence_length": {"type": "integer", "minimum": 2, "maximum": 1048576, "unit": "token",
                      "doc": "predicted per sequence"},
  "batch_sequences": {"type": "integer", "minimum": 1, "maximum": 1048576, "doc": "per step"},
  "accumulate": {"type": "integer", "default": 1, "minimum": 1, "doc": "parts of the batch"},
  "shares": {"type": "object", "doc": "source: share of the sequences"},
  "answer_weight": {"type": ["number", "null"], "default": null, "minimum": 0,
                    "doc": "null: as in `loss`"},
  "other_weight": {"type": ["number", "null"], "default": null, "minimum": 0,
                   "doc": "null: as in `loss`"}})";

constexpr const char* kRuleText = R"({
  "match": {"type": "array", "items": "string", "doc": "patterns of names; * is anything"},
  "learning_rate": {"type": "number", "default": 1, "minimum": 0, "doc": "times the schedule's"},
  "weight_decay": {"type": ["number", "null"], "default": null, "minimum": 0,
                   "doc": "null: the optimiser's"},
  "frozen": {"type": "boolean", "default": false, "doc": "not trained at all"}})";

Json complete(const char* schema, const Json& given, const std::string& who) {
  return Schema::parse(schema, who).complete(given, who);
}

double or_else(const Json& value, double otherwise) {
  return value.is_null() ? otherwise : value.get<double>();
}

std::map<std::string, double> shares_of(const Json& given, const std::string& who) {
  std::map<std::string, double> shares;
  double sum = 0;
  for (const auto& [name, share] : given.items()) {
    KVLAB_REQUIRE(share.is_number() && share.get<double>() >= 0, "E_CONFIG", who, ": share of `",
                  printable(name), "` is ", printable(share.dump()), ", must be a number from 0");
    shares[name] = share.get<double>();
    sum += share.get<double>();
  }
  KVLAB_REQUIRE(std::abs(sum - 1) < 1e-9, "E_CONFIG", who, ": the shares add up to ", sum,
                ", must be 1");
  return shares;
}

TrainStage stage_from(const Json& given, const Json& loss, const std::string& who,
                      Json& effective) {
  effective = complete(kStageText, given, who);
  TrainStage stage{
      .until_step = effective.at("until_step"),
      .sequence_length = effective.at("sequence_length"),
      .batch_sequences = effective.at("batch_sequences"),
      .accumulate = effective.at("accumulate"),
      .shares = shares_of(effective.at("shares"), who),
      .answer_weight = or_else(effective.at("answer_weight"), loss.at("answer_weight")),
      .other_weight = or_else(effective.at("other_weight"), loss.at("other_weight"))};
  KVLAB_REQUIRE(stage.batch_sequences % stage.accumulate == 0, "E_CONFIG", who,
                ": `accumulate` is ", stage.accumulate,
                ", must divide `batch_sequences` = ", stage.batch_sequences);
  return stage;
}

std::vector<TrainStage> stages_from(Json& stages, const Json& loss) {
  KVLAB_REQUIRE(!stages.empty(), "E_CONFIG", "train: `stages` is empty; name at least one");
  std::vector<TrainStage> all;
  for (size_t i = 0; i < stages.size(); ++i) {
    const std::string who = "train: stage " + std::to_string(i);
    Json effective;
    all.push_back(stage_from(stages[i], loss, who, effective));
    stages[i] = effective;
    KVLAB_REQUIRE(i == 0 || all[i].until_step > all[i - 1].until_step, "E_CONFIG", who,
                  ": `until_step` is ", all[i].until_step, ", must be above the stage before, ",
                  i == 0 ? 0 : all[i - 1].until_step);
  }
  return all;
}

OptimiserConfig optimiser_from(Json& given) {
  OptimiserConfig optimiser{.learning_rate = given.at("learning_rate"),
                            .beta1 = given.at("beta1"),
                            .beta2 = given.at("beta2"),
                            .epsilon = given.at("epsilon"),
                            .weight_decay = given.at("weight_decay"),
                            .clip = given.at("clip")};
  for (size_t i = 0; i < given.at("groups").size(); ++i) {
    Json& group = given.at("groups")[i];
    group = complete(kRuleText, group, "train: optimiser group " + std::to_string(i));
    optimiser.rules.push_back(
        {.match = group.at("match"),
         .learning_rate = group.at("learning_rate"),
         .weight_decay = or_else(group.at("weight_decay"), optimiser.weight_decay),
         .frozen = group.at("frozen")});
  }
  return optimiser;
}

}  // namespace

double Schedule::scale(int64_t step) const {
  if (step < warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const double left = static_cast<double>(std::max<int64_t>(1, steps - 1 - warmup_steps));
  const double way = std::min(1.0, static_cast<double>(step - warmup_steps) / left);
  return final_share + (1 - final_share) * 0.5 * (1 + std::cos(std::numbers::pi * way));
}

const TrainStage& TrainConfig::stage_of(int64_t step) const {
  for (const TrainStage& stage : stages)
    if (step < stage.until_step) return stage;
  return stages.back();
}

Json TrainConfig::identity() const {
  Json json = effective;
  for (const char* key : {"output", "checkpoint_every", "name"}) json.erase(key);
  json.at("data").erase("directory");
  return json;
}

TrainConfig parse_train_config(const Json& given) {
  TrainConfig config;
  Json& all = config.effective = complete(kSchemaText, given, "train");
  config.name = all.at("name");
  KVLAB_REQUIRE(!config.name.empty() && config.name.find('/') == std::string::npos, "E_CONFIG",
                "train: `name` is \"", printable(config.name), "\", must be the name of a folder");
  const std::string output = all.at("output");
  config.output = output.empty() ? std::filesystem::path("build/train") / config.name
                                 : std::filesystem::path(output);
  config.model = all.at("model");
  config.init_std = all.at("init").at("std");
  config.init_branches = all.at("init").at("branches");
  if (const std::string match = all.at("init").at("induction"); match != "none")
    config.init_induction = match == "pairs" ? Match::pairs : Match::tokens;
  config.init_from = all.at("init").at("from").get<std::string>();
  config.data = all.at("data").at("directory").get<std::string>();
  config.held_out_documents = all.at("data").at("held_out_documents");
  config.loss_mean = all.at("loss").at("mean") == "tokens" ? LossMean::tokens : LossMean::weights;
  config.stages = stages_from(all.at("stages"), all.at("loss"));
  config.optimiser = optimiser_from(all.at("optimiser"));
  config.schedule = {.warmup_steps = all.at("schedule").at("warmup_steps"),
                     .steps = config.steps(),
                     .final_share = all.at("schedule").at("final_share")};
  const Json& validation = all.at("validation");
  config.validation = {.text_windows = validation.at("text_windows"),
                       .text_length = validation.at("text_length"),
                       .recall = validation.at("recall"),
                       .documents = validation.at("documents")};
  KVLAB_REQUIRE(
      config.validation.recall.empty() || config.validation.documents <= config.held_out_documents,
      "E_CONFIG", "train: `validation.documents` is ", config.validation.documents,
      ", must be at most `data.held_out_documents` = ", config.held_out_documents);
  config.dtype = dtype_named(all.at("dtype").get<std::string>());
  config.seed = all.at("seed");
  config.threads = all.at("threads");
  config.checkpoint_every = all.at("checkpoint_every");
  config.validate_every = all.at("validate_every");
  return config;
}

bool fits(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == pattern.npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  name.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  for (size_t skip = 0; skip <= name.size(); ++skip)
    if (fits(pattern, name.substr(skip))) return true;
  return false;
}

}  // namespace kvlab
