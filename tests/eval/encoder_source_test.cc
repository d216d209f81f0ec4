// Samples with tokens for an encoder, on a small random T5: every run of them reads the same
// source.

#include <gmock/gmock.h>

#include "eval/dense_twin.h"
#include "eval/promises.h"
#include "kernels/cpu_engine.h"
#include "tests/eval/models/cached.h"
#include "tests/eval/models/random_t5.h"
#include "tests/support/examples.h"

namespace kvlab {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::Gt;
using testing::IsEmpty;
using testing::SizeIs;

class EncoderSource : public testing::Test {
 protected:
  struct Seen {
    Outcome outcome{};
    Fidelity fidelity{};
    std::vector<LayerFidelity> layers{};
  };
  Composition of(const Json& method) const {
    return compose(parse_methods(method, test::all_methods()), model_->shape(), test::all_methods(),
                   nullptr, Dtype::f32);
  }
  Subject subject(const Composition& composition) {
    return {.model = model_.get(),
            .composition = &composition,
            .registry = &test::all_methods(),
            .where = {.engine = make_cpu_engine()}};
  }
  Outcome run(const Sample& sample, const Json& method = "dense") {
    const Composition composition = of(method);
    return run_sample(subject(composition), sample, {});
  }
  Seen beside_dense(const Json& method) {
    const Composition composition = of(method), dense = of("dense");
    const Subject reference = subject(dense);
    DenseTwin twin(reference);
    Seen seen{.outcome = run_sample(subject(composition), sample_, {.query_chunk = 1},
                                    {.companion = &twin})};
    seen.fidelity = twin.fidelity();
    seen.layers = twin.layers();
    return seen;
  }
  static Sample make_sample() {
    Sample sample{.id = "s", .context = {.ids = {0}}};
    for (int32_t i = 0; i < 50; ++i) sample.encoder_tokens.push_back(2 + i * 7 % 37);
    for (int32_t i = 1; i < 30; ++i) sample.context.ids.push_back(2 + i * 5 % 37);
    Turn turn;
    for (int32_t i = 0; i < 10; ++i) {
      turn.query.ids.push_back(2 + i * 3 % 37);
      turn.query.labels.push_back(2 + (i + 1) * 3 % 37);
    }
    sample.turns = {turn};
    return sample;
  }

  std::unique_ptr<Model> model_ = test::RandomT5().model();
  Sample sample_ = make_sample();
};

TEST_F(EncoderSource, CountsInTheBytesOfADenseCache) {
  const Outcome outcome = run(sample_);
  const int64_t per_token = int64_t{2} * 3 * 2 * 16 * 2;  // blocks, heads, K and V, d, bytes
  EXPECT_EQ(outcome.end.tokens, 40);
  EXPECT_EQ(outcome.end.dense, per_token * (40 + 50));
  EXPECT_EQ(outcome.end.dense_run, outcome.end.cache_bytes());
  EXPECT_EQ(outcome.after_prefill.dense, per_token * (30 + 50));
  EXPECT_EQ(outcome.compress_events, 0);
}

TEST_F(EncoderSource, DecidesTheScores) {
  Sample other = sample_;
  other.encoder_tokens.back() = 3;
  EXPECT_NE(run(other).nll, run(sample_).nll);
}

TEST_F(EncoderSource, IsReadAgainByATurnFromNothing) {
  Sample restarting = sample_;
  restarting.turns_restart = true;
  restarting.turns[0].from_nothing = true;
  Sample alone = sample_;
  alone.context = {};
  EXPECT_EQ(run(restarting).nll, run(alone).nll);
  EXPECT_NE(run(restarting).nll, run(sample_).nll);
}

TEST_F(EncoderSource, IsKeptWhereEverythingIsOnePrompt) {
  EXPECT_EQ(in_one_pass(sample_).encoder_tokens, sample_.encoder_tokens);
  EXPECT_EQ(describe(sample_).at("encoder_ids"), Json(sample_.encoder_tokens));
  EXPECT_FALSE(describe(Sample{}).contains("encoder_ids"));
}

TEST_F(EncoderSource, ADenseRunIsNowhereApartFromItsTwin) {
  const Seen seen = beside_dense("dense");
  EXPECT_THAT(seen.fidelity.kl, SizeIs(10));
  EXPECT_THAT(seen.fidelity.kl, Each(0));
  ASSERT_THAT(seen.layers, SizeIs(4));
  for (const LayerFidelity& layer : seen.layers) {
    EXPECT_EQ(layer.key_error + layer.value_error + layer.score_max_abs, 0);
    EXPECT_GT(layer.key_norm, 0);
    EXPECT_THAT(layer.nmse, Each(0));
    EXPECT_THAT(layer.mass_lost, ElementsAre(0, 0, 0));
  }
  EXPECT_THAT(seen.layers[0].retained, ElementsAre(30, 30, 30));
  EXPECT_THAT(seen.layers[1].retained, IsEmpty()) << "of the encoder's tokens none is dropped";
}

TEST_F(EncoderSource, IsStoredAsTheMethodStoresIt) {
  KVLAB_EXAMPLE("quant");
  const Seen seen = beside_dense({{"name", "quant"}, {"params", {{"bits", 8}, {"group", 0}}}});
  EXPECT_GT(seen.outcome.compress_events, 0);
  EXPECT_LT(seen.outcome.end.cache_bytes(), seen.outcome.end.dense);
  for (const LayerFidelity& layer : seen.layers) {
    EXPECT_GT(layer.key_error, 0);
    EXPECT_LT(layer.key_error, 1e-4 * layer.key_norm);
    EXPECT_GT(layer.score_max_abs, 0);
  }
  for (const double kl : seen.fidelity.kl) EXPECT_LT(kl, 1e-3);
}

// What a window drops is the mass that the dense run's first query puts there, bias by distance
// included: together with what is kept it is all there is.
TEST_F(EncoderSource, AWindowLosesMassOfTheDecodersOwnTokensAlone) {
  KVLAB_EXAMPLE("window");
  const auto lost = [&](int64_t recent) {
    const Json params{{"sink", 0}, {"recent", recent}};
    return beside_dense({{"name", "window"}, {"params", params}}).layers;
  };
  const std::vector<LayerFidelity> narrow = lost(4), wide = lost(25);
  for (const size_t self : {0, 2}) {
    EXPECT_THAT(narrow[self].mass_lost, SizeIs(3));
    EXPECT_THAT(narrow[self].mass_lost, Each(Gt(0)));
    for (size_t h = 0; h < 3; ++h) EXPECT_GT(narrow[self].mass_lost[h], wide[self].mass_lost[h]);
    EXPECT_THAT(narrow[self + 1].mass_lost, Each(DoubleNear(0, 1e-12)));
  }
}

TEST_F(EncoderSource, CausalityIsOfTheDecoder) {
  const Composition dense = of("dense");
  for (const ReadPolicy read : {ReadPolicy::raw_chunk, ReadPolicy::stored})
    EXPECT_NO_THROW(check_causality(subject(dense), "dense", sample_, read));
}

}  // namespace
}  // namespace kvlab
