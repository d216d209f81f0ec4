// A run beside a dense one, on the model that recalls perfectly.

#include "eval/dense_twin.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "kernels/cpu_engine.h"
#include "tests/eval/models/cached.h"
#include "tests/support/examples.h"

namespace kvlab {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::SizeIs;

class DenseTwinOf : public testing::Test {
 protected:
  struct Seen {
    Fidelity fidelity{};
    std::vector<LayerFidelity> layers{};
    Outcome outcome{};
  };

  Seen run(const Json& method, const Feeding& feeding = {.query_chunk = 1}) {
    const Composition composition = of(method), dense = of("dense");
    const Subject reference{.model = model_.get(),
                            .composition = &dense,
                            .registry = &test::all_methods(),
                            .where = {.engine = make_cpu_engine()}};
    Subject subject = reference;
    subject.composition = &composition;
    DenseTwin twin(reference);
    Seen seen{.outcome = run_sample(subject, sample_, feeding, {.companion = &twin})};
    seen.fidelity = twin.fidelity();
    seen.layers = twin.layers();
    return seen;
  }
  Composition of(const Json& method) const {
    return compose(parse_methods(method, test::all_methods()), model_->shape(), test::all_methods(),
                   nullptr, Dtype::f32);
  }

  /// 100 tokens of context, 20 scored.
  static Sample make_sample() {
    Sample sample{.context = {.ids = {0}}};
    while (sample.context.ids.size() < 100)
      sample.context.ids.push_back(1 + static_cast<int32_t>(sample.context.ids.size() * 7 % 30));
    Turn turn;
    for (int32_t i = 0; i < 20; ++i) {
      turn.query.ids.push_back(1 + i * 11 % 30);
      turn.query.labels.push_back(1 + (i + 1) * 11 % 30);
    }
    sample.turns = {turn};
    return sample;
  }

  std::unique_ptr<Model> model_ =
      load_model({{"builtin", "recall2"}, {"heads", 4}, {"kv_heads", 2}});
  Sample sample_ = make_sample();
};

TEST_F(DenseTwinOf, ADenseRunIsNowhereApart) {
  const Seen seen = run("dense");
  EXPECT_THAT(seen.fidelity.kl, SizeIs(20));
  EXPECT_THAT(seen.fidelity.kl, Each(0));
  EXPECT_EQ(seen.fidelity.error, 0);
  ASSERT_THAT(seen.layers, SizeIs(2));
  for (const LayerFidelity& layer : seen.layers) {
    EXPECT_THAT(layer.nmse, Each(0));
    EXPECT_EQ(layer.key_error + layer.value_error, 0);
    EXPECT_GT(layer.key_norm, 0);
    EXPECT_THAT(layer.mass_lost, ElementsAre(0, 0, 0, 0));
    EXPECT_THAT(layer.retained, ElementsAre(100, 100));
  }
}

TEST_F(DenseTwinOf, LooksAtPowersOfTwoSinceThePrompt) {
  // 1, 2, 4, 8 and 16 of 20, however they are fed.
  for (const int64_t chunk : {1, 3, 0})
    EXPECT_THAT(run("dense", {.query_chunk = chunk}).layers[0].nmse, SizeIs(5)) << chunk;
}

TEST_F(DenseTwinOf, ItsNllIsTheDenseRuns) {
  KVLAB_EXAMPLE("quant");
  const Seen dense = run("dense");
  EXPECT_EQ(run("quant").fidelity.dense_nll, dense.fidelity.dense_nll);
  for (size_t i = 0; i < 20; ++i)
    EXPECT_NEAR(dense.fidelity.dense_nll[i], dense.outcome.nll[i], 1e-12);
}

TEST_F(DenseTwinOf, DoesNotChangeTheRunBesideIt) {
  KVLAB_EXAMPLE("quant");
  const Composition composition = of("quant");
  const Subject alone{.model = model_.get(),
                      .composition = &composition,
                      .registry = &test::all_methods(),
                      .where = {.engine = make_cpu_engine()}};
  EXPECT_EQ(run("quant").outcome.nll, run_sample(alone, sample_, {.query_chunk = 1}).nll);
}

TEST_F(DenseTwinOf, AWindowLosesTheMassOfWhatItDropped) {
  KVLAB_EXAMPLE("window");
  const Json window{{"name", "window"}, {"params", {{"sink", 1}, {"recent", 25}}}};
  const Seen seen = run(window);
  const LayerFidelity& layer = seen.layers[1];
  // Position 0 and the newest 24; the query's own row is the 25th.
  EXPECT_THAT(layer.retained, ElementsAre(25, 25));
  EXPECT_EQ(layer.key_error, 0);
  // Heads 1-3 of the model have no queries: they attend to all 101 positions alike.
  for (const size_t head : {1, 2, 3}) EXPECT_NEAR(layer.mass_lost[head], 75.0 / 101, 1e-12);
}

TEST_F(DenseTwinOf, StoredRowsAreAsFarApartAsTheyAre) {
  KVLAB_EXAMPLE("quant");
  const Json quant{{"name", "quant"}, {"params", {{"bits", 4}}}};
  const Seen seen = run(quant);
  const auto dense = test::new_cache(*model_), other = test::new_cache(*model_, quant);
  double error = 0, norm = 0;
  const std::vector<int32_t>& ids = sample_.context.ids;
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  const int32_t indptr[] = {0, static_cast<int32_t>(ids.size())};
  std::vector<float> rows[2];
  for (int i = 0; i < 2; ++i) {
    Cache& cache = i == 0 ? *dense : *other;
    const SeqId one = cache.add_sequence();
    model_->forward(
        cache, {.rows = {{&one, 1}, indptr, positions}, .token_ids = ids, .end = ChunkEnd::prompt},
        {});
    Tensor keys = make_tensor("k", Dtype::f32, {100, 2, 64});
    Tensor values = make_tensor("v", Dtype::f32, {100, 2, 64});
    cache.materialise(0, one, {0, 100}, keys.view, values.view);
    const auto* data = reinterpret_cast<const float*>(keys.view.data);
    rows[i].assign(data, data + keys.view.numel());
  }
  for (size_t i = 0; i < rows[0].size(); ++i) {
    error += std::pow(static_cast<double>(rows[0][i]) - rows[1][i], 2);
    norm += std::pow(static_cast<double>(rows[0][i]), 2);
  }
  EXPECT_GT(error, 0);
  EXPECT_NEAR(seen.layers[0].key_error, error, 1e-9 * error);
  EXPECT_NEAR(seen.layers[0].key_norm, norm, 1e-9 * norm);
}

TEST_F(DenseTwinOf, FollowsTurnsThatStartAgain) {
  sample_.turns.push_back(sample_.turns[0]);
  sample_.turns_restart = true;
  sample_.turns.push_back(
      {.query = {.ids = {0, 3, 4}, .labels = {-1, 4, 5}}, .from_nothing = true});
  const Seen seen = run("dense");
  EXPECT_THAT(seen.fidelity.kl, SizeIs(42));
  EXPECT_THAT(seen.fidelity.kl, Each(0));
  EXPECT_THAT(seen.layers[0].nmse, Each(0));
}

}  // namespace
}  // namespace kvlab
