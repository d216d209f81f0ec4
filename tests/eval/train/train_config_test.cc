#include "eval/train/train_config.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numbers>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

Json recipe() {
  return Json::parse(R"({"schema": "kvlab-train/1", "name": "m", "model": {"model_type": "llama"},
    "stages": [{"until_step": 10, "sequence_length": 8, "batch_sequences": 4, "shares": {"text": 1}},
               {"until_step": 30, "sequence_length": 16, "batch_sequences": 2,
                "shares": {"text": 0.5, "recall-8": 0.5}, "answer_weight": 3}],
    "optimiser": {"learning_rate": 0.01}})");
}

Json with(const char* pointer, const Json& value) {
  Json json = recipe();
  json[Json::json_pointer(pointer)] = value;
  return json;
}

TEST(TrainConfig, FillsInWhatIsNotSaid) {
  const TrainConfig config = parse_train_config(recipe());
  EXPECT_EQ(config.output, "build/train/m");
  EXPECT_EQ(config.steps(), 30);
  EXPECT_EQ(config.stage_of(9).sequence_length, 8);
  EXPECT_EQ(config.stage_of(10).sequence_length, 16);
  EXPECT_EQ(config.stages[0].answer_weight, 1);
  EXPECT_EQ(config.stages[1].answer_weight, 3);
  EXPECT_EQ(config.stages[1].other_weight, 0.1);
  EXPECT_EQ(config.dtype, Dtype::bf16);
  EXPECT_EQ(config.optimiser.rules.size(), 1u);
  EXPECT_EQ(config.optimiser.rules[0].weight_decay, 0);
}

TEST(TrainConfig, RefusesWhatItDoesNotKnowOrCannotBe) {
  const auto parse = [](const Json& json) { return parse_train_config(json).steps(); };
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `stages`?", parse(with("/stage", 1)));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `learning_rate`?",
                 parse(with("/optimiser/learning_rat", 1)));
  EXPECT_REFUSED("E_UNKNOWN", "stage 0", parse(with("/stages/0/lenght", 1)));
  EXPECT_REFUSED("E_CONFIG", "add up to 0.9", parse(with("/stages/0/shares/text", 0.9)));
  EXPECT_REFUSED("E_CONFIG", "must be a number from 0", parse(with("/stages/0/shares/text", -1)));
  EXPECT_REFUSED("E_CONFIG", "must be above the stage before, 10",
                 parse(with("/stages/1/until_step", 10)));
  EXPECT_REFUSED("E_CONFIG", "`accumulate` is 3, must divide `batch_sequences` = 4",
                 parse(with("/stages/0/accumulate", 3)));
  EXPECT_REFUSED("E_CONFIG", "`stages` is empty", parse(with("/stages", Json::array())));
  EXPECT_REFUSED("E_CONFIG", "name of a folder", parse(with("/name", "../m")));
  EXPECT_REFUSED("E_CONFIG", "float16", parse(with("/dtype", "float16")));
  EXPECT_REFUSED("E_CONFIG", "schema", parse(with("/schema", "kvlab-config/1")));
  EXPECT_REFUSED("E_UNKNOWN", "optimiser group 0",
                 parse(with("/optimiser/groups", {{{"names", 1}}})));
}

TEST(TrainConfig, IsAnotherRunOnlyWhereTheNumbersWouldBeOthers) {
  const Json identity = parse_train_config(recipe()).identity();
  EXPECT_EQ(identity, parse_train_config(with("/output", "elsewhere")).identity());
  EXPECT_EQ(identity, parse_train_config(with("/checkpoint_every", 7)).identity());
  EXPECT_NE(identity, parse_train_config(with("/seed", 7)).identity());
  EXPECT_NE(identity, parse_train_config(with("/stages/1/until_step", 40)).identity());
}

TEST(Schedule, RisesInEqualStepsAndFallsAlongHalfACosine) {
  const Schedule schedule{.warmup_steps = 4, .steps = 25, .final_share = 0.2};
  for (int64_t step = 0; step < 4; ++step)
    EXPECT_DOUBLE_EQ(schedule.scale(step), static_cast<double>(step + 1) / 4);
  EXPECT_DOUBLE_EQ(schedule.scale(4), 1);
  EXPECT_DOUBLE_EQ(schedule.scale(14), 0.6);  // half way
  EXPECT_DOUBLE_EQ(schedule.scale(9), 0.2 + 0.4 * (1 + std::cos(std::numbers::pi / 4)));
  EXPECT_DOUBLE_EQ(schedule.scale(24), 0.2);
  EXPECT_DOUBLE_EQ((Schedule{.steps = 1, .final_share = 1}.scale(0)), 1);
}

TEST(Fits, LetsAStarStandForAnything) {
  EXPECT_TRUE(fits("*", ""));
  EXPECT_TRUE(fits("a*c", "abbc"));
  EXPECT_TRUE(fits("*norm.weight", "model.norm.weight"));
  EXPECT_TRUE(fits("*.0.*", "model.layers.0.mlp"));
  EXPECT_FALSE(fits("*.0.*", "model.layers.10.mlp"));
  EXPECT_FALSE(fits("a", "ab"));
  EXPECT_FALSE(fits("a*c", "abcd"));
}

}  // namespace
}  // namespace kvlab
