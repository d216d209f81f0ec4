// Which mode a layer gets: the order tried, targets, a budget over all layers, refusals.
#include "methods/slim/choose.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <string>

#include "core/error.h"
#include "tests/methods/slim/fake_model.h"
#include "tests/methods/slim/rows.h"

namespace kvlab::test {
namespace {

using slim::Mode;
using slim::Offer;
using slim::Step;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const std::vector<Step>& steps) {
  std::vector<std::string> all;
  for (const Step& step : steps)
    all.push_back(std::string(name_of(step.mode)) +
                  (step.side > 0 ? " " + std::to_string(step.side) : ""));
  return all;
}

std::string refusal(const std::string& code, const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no " << code;
  return {};
}

slim::Site site(slim::Rotary rotary) {
  return {.model_width = 1024,
          .num_kv_heads = 16,
          .head_dim = 64,
          .value_dim = 64,
          .rotary = rotary,
          .rotary_dim = rotary == slim::Rotary::full ? 64 : 16};
}

TEST(Ladder, HiddenRowsWhereNothingTurns) {
  EXPECT_THAT(names(slim::ladder(site(slim::Rotary::none), Dtype::bf16)), ElementsAre("input"));
}

TEST(Ladder, RepairsOfKeysCheapestFirst) {
  EXPECT_THAT(names(slim::ladder(site(slim::Rotary::full), Dtype::f16)),
              ElementsAre("keys", "keys_shaped", "keys_shaped_side 16", "keys_shaped_side 32",
                          "keys_shaped_side 64", "keys_shaped_side 128", "keys_basis 16",
                          "keys_basis 32", "keys_basis 64", "keys_basis 128", "keys24"));
}

TEST(Ladder, NoBasisOfHeadsThatTurnInPart) {
  for (const Step& step : slim::ladder(site(slim::Rotary::partial), Dtype::bf16))
    EXPECT_NE(step.mode, Mode::keys_basis);
}

TEST(Ladder, InFloat32KeysAlone) {
  EXPECT_THAT(names(slim::ladder(site(slim::Rotary::full), Dtype::f32)), ElementsAre("keys"));
}

TEST(Target, BoundsTheErrorOfValues) {
  EXPECT_EQ(slim::allowed_error(slim::Wish::Target::strict, 2e-4), 4e-4);
  EXPECT_EQ(slim::allowed_error(slim::Wish::Target::near, 2e-4), std::ldexp(1.0, -9));
  EXPECT_EQ(slim::allowed_error(slim::Wish::Target::near, 2e-3), 4e-3);
}

// --- a budget

/// Bytes and errors of two layers: the second gains more from its second byte.
const std::vector<std::vector<Offer>> kOffers{
    {{{Mode::dense}, 4, 0.1}, {{Mode::keys}, 2, 1.0}, {{Mode::keys24}, 3, 0.5}},
    {{{Mode::dense}, 4, 0.1}, {{Mode::keys}, 2, 3.0}, {{Mode::keys24}, 3, 0.5}}};

TEST(Budget, IsSpentWhereAByteLosesMostError) {
  EXPECT_THAT(slim::within_budget(kOffers, 4), ElementsAre(1, 1));
  EXPECT_THAT(slim::within_budget(kOffers, 5), ElementsAre(1, 2));
  EXPECT_THAT(slim::within_budget(kOffers, 6), ElementsAre(2, 2));
  EXPECT_THAT(slim::within_budget(kOffers, 8), ElementsAre(0, 0));
}

TEST(Budget, BelowTheCheapestModesIsRefused) {
  EXPECT_THAT(refusal("SLIM_E_BUDGET", [] { slim::within_budget(kOffers, 3.9); }),
              HasSubstr("the cheapest modes of all layers take 4"));
}

TEST(Budget, IsKeptByPrepare) {
  FakeModel model({.layers = 3});
  const Artifact made =
      prepare_slim(model, {{"target", "budget"}, {"budget", 0.7}, {"store", "bfloat16"}});
  double bytes = 0, errors = 0;
  for (const Json& layer : made.header().at("layers")) {
    bytes += layer.at("bytes_per_token").get<double>();
    errors += std::pow(layer.at("value_error").get<double>(), 2);
  }
  EXPECT_LE(bytes, 0.7 * 3 * 2 * 32 * 2);
  const Artifact least = prepare_slim(model, {{"mode", "keys"}, {"store", "bfloat16"}});
  double most = 0;
  for (const Json& layer : least.header().at("layers"))
    most += std::pow(layer.at("value_error").get<double>(), 2);
  EXPECT_LT(errors, most / 4);
}

// --- prepare

const char* const kTargets[] = {"strict", "near"};

TEST(Prepare, KeepsTheTargetOrStaysDense) {
  FakeModel model({.layers = 4});
  for (const char* target : kTargets)
    for (const char* store : {"bfloat16", "float16", "float32"}) {
      const Artifact made = prepare_slim(model, {{"target", target}, {"store", store}});
      for (const Json& layer : made.header().at("layers")) {
        const double rounding = layer.at("rounding"), error = layer.at("value_error");
        const double allowed = target == std::string("strict")
                                   ? 2 * rounding
                                   : std::max(2 * rounding, std::ldexp(1.0, -9));
        EXPECT_LE(error, allowed) << target << " " << store << " " << layer;
        EXPECT_EQ(layer.at("mode") == "dense", layer.at("share_of_dense") == 1.0);
      }
    }
}

TEST(Prepare, OfTheSameTextIsTheSame) {
  FakeModel model({.layers = 2});
  const Json params{{"mode", "keys_shaped_side"}, {"store", "bfloat16"}};
  EXPECT_EQ(prepare_slim(model, params).header(), prepare_slim(model, params).header());
}

// --- what prepare refuses, and what it says instead

TEST(Refusal, NothingToSaveWithGroupedQueries) {
  FakeModel model({.heads = 4, .kv_heads = 2});
  const std::string why =
      refusal("SLIM_E_NO_SAVING", [&] { prepare_slim(model, {{"store", "bfloat16"}}); });
  EXPECT_THAT(why, HasSubstr("c = 32 / 32 = 1"));
  EXPECT_THAT(why, HasSubstr("Palu"));
}

TEST(Refusal, KeysThatAreNormalised) {
  FakeModel model(FakeConfig{});
  model.shape().layers[0].qk_norm = Layer::Norm::per_head;
  EXPECT_THAT(refusal("SLIM_E_NORM", [&] { prepare_slim(model, Json::object()); }),
              HasSubstr("use quant"));
}

TEST(Refusal, HiddenRowsUnderRope) {
  FakeModel model(FakeConfig{});
  for (const char* mode : {"input", "klt"})
    EXPECT_THAT(refusal("SLIM_E_ROPE_ABSORB", [&] { prepare_slim(model, {{"mode", mode}}); }),
                HasSubstr("keys"));
}

TEST(Refusal, KeysThatLackADirection) {
  FakeModel model(FakeConfig{});
  std::fill_n(model.layer(0).key.begin(), 2 * 32, 0.0F);  // two features of the first head
  EXPECT_THAT(refusal("SLIM_E_RANK", [&] { prepare_slim(model, {{"mode", "keys"}}); }),
              HasSubstr("keys_side"));
  // Side rows hold what is lost.
  const Artifact made =
      prepare_slim(model, {{"mode", "keys_side"}, {"side", 8}, {"store", "bfloat16"}});
  const Json& layer = made.header().at("layers").at(0);
  EXPECT_LT(layer.at("value_error").get<double>(), 20 * layer.at("rounding").get<double>());
}

TEST(Refusal, AConditionNoModeRepairs) {
  FakeModel model(FakeConfig{});
  // Key features that are all but one direction: what is left of the others is in the last bits.
  FakeLayer& layer = model.layer(0);
  for (size_t row = 1; row < 32; ++row)
    for (size_t i = 0; i < 32; ++i)
      layer.key[row * 32 + i] = layer.key[i] + 1e-6F * layer.key[row * 32 + i];
  const Json strict{{"target", "strict"}, {"store", "bfloat16"}, {"fallback", "refuse"}};
  const std::string why = refusal("SLIM_E_CONDITION", [&] { prepare_slim(model, strict); });
  EXPECT_THAT(why, HasSubstr("G = "));
  EXPECT_THAT(why, HasSubstr("cond(F) = "));
  const Artifact dense = prepare_slim(model, {{"target", "strict"}, {"store", "bfloat16"}});
  EXPECT_EQ(dense.header().at("layers").at(0).at("mode"), "dense");
}

TEST(Refusal, KeysBeyondFloat16) {
  FakeModel model(FakeConfig{});
  for (float& weight : model.layer(0).key) weight *= 1e5F;
  EXPECT_THAT(refusal("SLIM_E_RANGE",
                      [&] { prepare_slim(model, {{"mode", "keys"}, {"store", "float16"}}); }),
              HasSubstr("bfloat16"));
}

TEST(Refusal, NoTextWhereKeysTurn) {
  FakeModel model(FakeConfig{});
  EXPECT_THAT(refusal("E_CONFIG", [&] { prepare_slim(model, Json::object(), 0); }),
              HasSubstr("--text"));
}

TEST(Refusal, AnArtifactOfOtherParameters) {
  FakeModel model(FakeConfig{});
  const Artifact made = prepare_slim(model, {{"mode", "keys"}, {"store", "bfloat16"}});
  Registry registry;
  register_all(registry);
  const Json asked = registry.method_schema("slim").complete({{"mode", "keys24"}}, "slim");
  EXPECT_THAT(refusal("E_CONFIG",
                      [&] {
                        registry.method("slim").stages(
                            {.shape = &model.shape(), .params = &asked, .artifact = &made});
                      }),
              HasSubstr("kvlab prepare slim"));
}

}  // namespace
}  // namespace kvlab::test
