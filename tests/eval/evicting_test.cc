// Known numbers of the model that recalls perfectly, when chosen rows are dropped, and what must
// not change when nothing is.

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "eval/catalogue.h"
#include "eval/dense_twin.h"
#include "kernels/cpu_engine.h"
#include "tests/eval/models/cached.h"
#include "tests/support/examples.h"

namespace kvlab {
namespace {

using testing::Each;
using testing::Ge;
using testing::Le;
using testing::SizeIs;

/// Drops the rows of given positions once their own pass is over.
class DropPositions final : public Select {
 public:
  explicit DropPositions(std::vector<int32_t> positions) : positions_(std::move(positions)) {}
  Selection selection(int) const override { return {.flags = true, .sinks = 0, .recent = 1}; }
  void admit(const Append& append, NewRows& out) const override {
    const TensorView keep = out.keep();
    for (int64_t row = 0; row < keep.size(0); ++row) {
      const int32_t position = append.rows.positions[static_cast<size_t>(row)];
      *keep.at(row) = std::ranges::find(positions_, position) == positions_.end();
    }
  }

 private:
  std::vector<int32_t> positions_;
};

Registry with_dropping() {
  Registry registry;
  register_all(registry);
  registry.add(
      Method{.name = "drop",
             .summary = "drops rows by position",
             .schema = R"({"positions": {"type": "array", "default": [], "doc": "whose rows go"}})",
             .stages = [](const Setup& setup) {
               return Stages{.select = std::make_shared<DropPositions>(
                                 setup.params->at("positions").get<std::vector<int32_t>>())};
             }});
  return registry;
}

class Evicting : public testing::Test {
 protected:
  /// Eight pairs in a context of `context` tokens, then keys 0, 1, ... asked one after the other.
  static Sample pairs(size_t context, size_t queries) {
    Sample sample;
    sample.context.ids.assign(context, 0);
    Turn turn;
    for (size_t i = 0; i < 8; ++i) {
      const auto key = static_cast<int32_t>(1 + i), value = static_cast<int32_t>(16 + i);
      sample.context.ids[1 + 2 * i] = key;
      sample.context.ids[2 + 2 * i] = value;
      if (i >= queries) continue;
      turn.query.ids.push_back(key);
      turn.query.labels.push_back(value);
    }
    sample.turns = {turn};
    return sample;
  }

  Outcome run(const Sample& sample, const Json& method, const Feeding& feeding = {},
              Companion* companion = nullptr) {
    const Composition composition = of(method);
    return run_sample(subject(composition), sample, feeding, {.companion = companion});
  }
  Fidelity beside_dense(const Sample& sample, const Json& method, const Feeding& feeding) {
    const Composition dense = of("dense");
    const Subject reference = subject(dense);
    DenseTwin twin(reference);
    run(sample, method, feeding, &twin);
    return twin.fidelity();
  }
  Composition of(const Json& method) {
    return compose(parse_methods(method, registry_), model_->shape(), registry_, nullptr,
                   Dtype::f32);
  }
  Subject subject(const Composition& composition) {
    return {.model = model_.get(),
            .composition = &composition,
            .registry = &registry_,
            .where = {.engine = engine_}};
  }
  static Json drop(std::vector<int32_t> positions) {
    return {{"name", "drop"}, {"params", {{"positions", std::move(positions)}}}};
  }

  Registry registry_ = with_dropping();
  std::shared_ptr<Engine> engine_ = make_cpu_engine();
  std::unique_ptr<Model> model_ = load_model({{"builtin", "recall2"}});
};

TEST_F(Evicting, AValueThatIsGoneCostsWhatTheClosedFormSays) {
  // 125 keys are left and all alike: 112 fillers' values, 2 of the asked key's, 11 and 19 others.
  const Outcome outcome = run(pairs(128, 1), drop({2, 4, 6, 8}));
  const double c2 = (112.0 * 112 + 2 * 2 + 7 + 4) / (125.0 * 125);
  const double g = 12 * std::sqrt(4 / (3 + c2));
  const double nll =
      std::log(std::exp(112 * g / 125) + std::exp(2 * g / 125) + 11 * std::exp(g / 125) + 19);
  EXPECT_NEAR(nll, 11.0264, 5e-5);
  ASSERT_THAT(outcome.nll, SizeIs(1));
  EXPECT_NEAR(outcome.nll[0], nll, 0.01);
}

TEST_F(Evicting, AKeyThatIsGoneCostsNothingOnceItsValueHasSeenIt) {
  const Outcome dense = run(pairs(128, 4), "dense");
  const Outcome dropped = run(pairs(128, 4), drop({1, 3, 5, 7}));
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(dropped.nll[i], dense.nll[i], 1e-6);
}

TEST_F(Evicting, RowsThatNobodyLooksAtCostNothing) {
  // Fillers in the middle: below 1e-12 of the attention of every query that is asked.
  std::vector<int32_t> fillers(60);
  for (size_t i = 0; i < fillers.size(); ++i) fillers[i] = static_cast<int32_t>(40 + i);
  const Outcome dense = run(pairs(128, 8), "dense"), dropped = run(pairs(128, 8), drop(fillers));
  EXPECT_LT(dropped.end.payload, dense.end.payload);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(dropped.nll[i], dense.nll[i], 1e-6);
}

TEST_F(Evicting, KeepingEverythingIsTheDenseCacheBitForBit) {
  KVLAB_EXAMPLE("window");
  const Sample sample = pairs(128, 8);
  const Json all{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 4096}}}};
  EXPECT_EQ(run(sample, all).nll, run(sample, "dense").nll);
  EXPECT_EQ(run(sample, drop({})).nll, run(sample, "dense").nll);
}

TEST_F(Evicting, TheDenseCacheDoesNotDependOnHowItIsFed) {
  const Sample sample = pairs(128, 8);
  const std::vector<double> at_once = run(in_one_pass(sample), "dense", {.prefill_chunk = 0}).nll;
  for (const int64_t chunk : {1, 3, 0})
    for (const int64_t prefill : {0, 7, 64}) {
      const Feeding feeding{.prefill_chunk = prefill, .query_chunk = chunk};
      const Outcome outcome = run(sample, "dense", feeding);
      for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(outcome.nll[i], at_once[i], 1e-4);
      const Fidelity fidelity = beside_dense(sample, "dense", feeding);
      EXPECT_THAT(fidelity.kl, Each(testing::AllOf(Ge(-1e-12), Le(1e-8))));
      EXPECT_EQ(outcome.end.cache_bytes(), outcome.end.dense_run);
    }
}

}  // namespace
}  // namespace kvlab
