#include "eval/autograd/decoder_autograd.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "eval/models/decoder_model.h"
#include "eval/pass_rows.h"
#include "tests/eval/autograd/random_decoder.h"
#include "tests/eval/models/cached.h"

namespace kvlab {
namespace {

using test::converted;
using test::new_cache;
using test::random_decoder;
using test::small_config;
using test::weights_of;

struct Member {
  const char* name;
  Json config;
};
std::ostream& operator<<(std::ostream& out, const Member& member) { return out << member.name; }

std::vector<Member> members() {
  const Json heads8{{"head_dim", 8}};
  return {{"llama", small_config({})},
          {"tied", small_config({{"tie_word_embeddings", true}})},
          {"one_kv_head_each", small_config({{"num_key_value_heads", 4}})},
          {"biases", small_config({{"attention_bias", true}, {"mlp_bias", true}})},
          {"gelu", small_config({{"hidden_act", "gelu"}})},
          {"linear_rope", small_config({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}})},
          {"qwen2", small_config({{"model_type", "qwen2"}})},
          {"window", small_config({{"model_type", "mistral"}, {"sliding_window", 7}})},
          {"qk_norm", small_config({{"model_type", "qwen3"}, {"head_dim", 8}})},
          {"partial_rotary", small_config({{"model_type", "phi3"},
                                           {"head_dim", 8},
                                           {"partial_rotary_factor", 0.5},
                                           {"sliding_window", nullptr}})},
          {"gemma2", small_config({{"model_type", "gemma2"},
                                   {"head_dim", 8},
                                   {"sliding_window", 6},
                                   {"query_pre_attn_scalar", 16},
                                   {"attn_logit_softcapping", 2.0},
                                   {"final_logit_softcapping", 3.0}})}};
}

std::vector<int32_t> some_tokens(int64_t n, int64_t vocabulary, uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
  return tokens;
}

at::Tensor ids_of(const std::vector<int32_t>& tokens, int64_t sequences) {
  const at::Tensor ids = at::empty({static_cast<int64_t>(tokens.size())}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>());
  return ids.view({sequences, -1});
}

double largest(const at::Tensor& difference) {
  return difference.abs().max().to(at::kDouble).item<double>();
}

class EveryMember : public testing::TestWithParam<Member> {
 protected:
  DecoderConfig config_ = decoder_config(GetParam().config, "test");
};
INSTANTIATE_TEST_SUITE_P(DecoderAutograd, EveryMember, testing::ValuesIn(members()),
                         [](const auto& param) { return std::string(param.param.name); });

/// The bound is what float32 itself costs: four times the error that these sums, in another order,
/// make against float64.
TEST_P(EveryMember, GivesTheLogitsOfTheNetworkThatKeepsACache) {
  const DecoderTensors exact = random_decoder(config_, at::kDouble, 5);
  const DecoderTensors weights = converted(config_, exact, at::kFloat);
  const std::vector<int32_t> tokens = some_tokens(23, config_.vocab_size, 6);

  const c10::NoGradGuard no_grad;
  const auto logits = [&](const DecoderTensors& w, Dtype dtype) {
    const DecoderAutograd network(config_, w, dtype);
    return network.logits(network.hidden(ids_of(tokens, 1)))[0];
  };
  const at::Tensor want = logits(exact, Dtype::f64), have = logits(weights, Dtype::f32);

  const auto model = make_decoder_model(
      {.config = config_, .weights = weights_of(weights), .fingerprint = "test"});
  const auto cache = new_cache(*model);
  PassRows rows;
  rows.add(cache->add_sequence(), 0, tokens, PassRows::Want::all);
  const Tensor cached =
      forward_logits(*model, *cache, rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt));

  const double rounding = largest(have.to(at::kDouble) - want);
  EXPECT_GT(largest(want), 0.1);
  EXPECT_LT(rounding, 1e-4);
  EXPECT_LE(largest(to_torch(cached.view) - have), 4 * rounding + 1e-6);
}

/// d loss / d w against (loss(w + h) - loss(w - h)) / 2h in float64.  The difference errs by
/// h^2 / 6 times the third derivative and by the rounding of the losses over h: with h = 1e-5, both
/// lie near 1e-10 here; 1e-7 leaves room for derivatives above one.
TEST_P(EveryMember, HasTheGradientsOfFiniteDifferences) {
  DecoderTensors weights = random_decoder(config_, at::kDouble, 7);
  const at::Tensor ids = ids_of(some_tokens(2 * 10, config_.vocab_size, 8), 2);
  const at::Tensor targets = ids.narrow(1, 1, 9).flatten();
  const at::Tensor shares = (at::empty({18}, at::kDouble).fill_(1)).cumsum(0) / 18;
  for_each_weight(config_, weights, [](const std::string&, const auto&, at::Tensor& w) {
    w.set_requires_grad(true);
  });
  const DecoderAutograd network(config_, weights, Dtype::f64);
  const auto loss = [&] {
    return network.loss(network.hidden(ids.narrow(1, 0, 9)).flatten(0, 1), targets, shares);
  };
  loss().backward();
  SplitMix64 random(9);
  for_each_weight(config_, weights, [&](const std::string& name, const auto&, at::Tensor& w) {
    ASSERT_TRUE(w.grad().defined()) << name;
    const c10::NoGradGuard no_grad;
    for (int i = 0; i < 3; ++i) {  // a few numbers of every tensor
      const auto at = static_cast<int64_t>(random.below(static_cast<uint64_t>(w.numel())));
      double* number = w.template data_ptr<double>() + at;
      const double before = *number, h = 1e-5;
      *number = before + h;
      const double above = loss().template item<double>();
      *number = before - h;
      const double below = loss().template item<double>();
      *number = before;
      const double gradient = w.grad().template data_ptr<double>()[at];
      EXPECT_NEAR(gradient, (above - below) / (2 * h), 1e-7) << name << " [" << at << "]";
    }
  });
}

TEST_P(EveryMember, LetsSomebodyElseAttend) {
  const DecoderTensors weights = random_decoder(config_, at::kDouble, 5);
  const DecoderAutograd network(config_, weights, Dtype::f64);
  const at::Tensor ids = ids_of(some_tokens(2 * 11, config_.vocab_size, 6), 2);
  int calls = 0;
  const at::Tensor same = network.hidden(ids, [&](const AttentionSite& site) {
    EXPECT_EQ(site.layer, calls++);
    return network.attend(site.layer, network.rotated(site.queries),
                          network.rotated(site.keys_pre_rope), site.values);
  });
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(largest(same - network.hidden(ids)), 0);
  const at::Tensor other = network.hidden(
      ids, [](const AttentionSite& site) { return at::empty_like(site.queries).zero_(); });
  EXPECT_GT(largest(other - same), 0.1);
}

/// A method's view: a gate on the values, its gradient against a difference.  The rounding of two
/// losses near 4, some 1e-6, over 2h = 0.02 is 1e-4; h^2 / 6 times a third derivative of up to 100,
/// 2e-3.
TEST_P(EveryMember, GivesOfflineStepsALossAndTheGradientsOfTheirOwnTensors) {
  const DecoderTensors weights = random_decoder(config_, at::kFloat, 5);
  const auto model = make_decoder_model(
      {.config = config_, .weights = weights_of(weights), .fingerprint = "test"});
  const auto access = model->access();
  const std::vector<int32_t> tokens = some_tokens(17, config_.vocab_size, 6);
  const DecoderAutograd network(config_, weights, Dtype::f32);
  const at::Tensor gate = at::empty({3}, at::kFloat).fill_(1);
  const ModelAccess::Attention gated_values = [&](const AttentionSite& site) {
    return network.attend(site.layer, network.rotated(site.queries),
                          network.rotated(site.keys_pre_rope), site.values * gate[site.layer]);
  };
  const double own = access->loss(tokens, {});
  EXPECT_NEAR(access->loss(tokens, gated_values), own, 1e-5);

  gate.set_requires_grad(true);
  access->loss(tokens, gated_values);
  const at::Tensor gradient = gate.grad().clone();
  gate.set_requires_grad(false);
  for (int64_t layer = 0; layer < 3; ++layer) {
    const float h = 0.01f;
    gate.data_ptr<float>()[layer] = 1 + h;
    const double above = access->loss(tokens, gated_values);
    gate.data_ptr<float>()[layer] = 1 - h;
    const double below = access->loss(tokens, gated_values);
    gate.data_ptr<float>()[layer] = 1;
    EXPECT_NEAR(gradient[layer].item<double>(), (above - below) / (2 * h), 3e-3) << layer;
  }
  const at::Tensor ids = ids_of(tokens, 1);
  const at::Tensor logits = network.logits(network.hidden(ids.narrow(1, 0, 16)))[0];
  EXPECT_NEAR(own, at::cross_entropy_loss(logits, ids.narrow(1, 1, 16).flatten()).item<double>(),
              1e-5);
}

TEST(HeadLoss, IsTheWeightedCrossEntropyInBlocksOfRows) {
  const DecoderConfig config = decoder_config(small_config({}), "test");
  const DecoderAutograd network(config, random_decoder(config, at::kDouble, 1), Dtype::f64);
  const int64_t rows = DecoderAutograd::kLossRows + 5;  // two blocks
  const at::Tensor hidden = at::empty({rows, 32}, at::kDouble).fill_(1).cumsum(0).cos_();
  const at::Tensor targets = ids_of(some_tokens(rows, 41, 2), rows).flatten();
  const at::Tensor weights = at::empty({rows}, at::kDouble).fill_(1).cumsum(0) / 7;
  const at::Tensor each = at::cross_entropy_loss(network.logits(hidden), targets, {}, 0);
  const double want = (each * weights).sum().item<double>();
  EXPECT_NEAR(network.loss(hidden, targets, weights).item<double>(), want, 1e-12 * want);
}

/// What bfloat16 products cost, by the composite of LibTorch's operators, against what the loops
/// written for this CPU cost: each against float64.
TEST(DecoderFunctions, ErrNoMoreThanLibTorchsOperatorsInBfloat16) {
  const DecoderConfig config = decoder_config(
      small_config({{"hidden_size", 64}, {"intermediate_size", 96}, {"head_dim", 32}}), "test");
  DecoderTensors exact = random_decoder(config, at::kDouble, 3);
  const at::Tensor ids = ids_of(some_tokens(2 * 65, config.vocab_size, 4), 2);
  const at::Tensor targets = ids.narrow(1, 1, 64).flatten();
  const auto gradients = [&](DecoderTensors w, Dtype dtype, bool composite) {
    std::vector<at::Tensor> all;
    for_each_weight(config, w, [&](const std::string&, const auto&, at::Tensor& t) {
      t.set_requires_grad(true);
    });
    const DecoderAutograd network(config, w, dtype);
    const DecoderAutograd::Attention own = [&](const AttentionSite& site) {
      return network.attend(site.layer, network.rotated(site.queries),
                            network.rotated(site.keys_pre_rope), site.values);
    };
    const at::Tensor hidden =
        network.hidden(ids.narrow(1, 0, 64), composite ? own : DecoderAutograd::Attention());
    const at::Tensor shares = at::empty({128}, w.embedding.options()).fill_(1.0 / 128);
    network.loss(hidden.flatten(0, 1), targets, shares.detach()).backward();
    for_each_weight(config, w, [&](const std::string&, const auto&, at::Tensor& t) {
      all.push_back(t.grad().to(at::kDouble));
    });
    return all;
  };
  const auto want = gradients(converted(config, exact, at::kDouble), Dtype::f64, false);
  const auto composite = gradients(converted(config, exact, at::kFloat), Dtype::bf16, true);
  const auto have = gradients(converted(config, exact, at::kFloat), Dtype::bf16, false);
  for (size_t i = 0; i < want.size(); ++i) {
    const double size = want[i].norm().item<double>();
    const double theirs = (composite[i] - want[i]).norm().item<double>() / size;
    EXPECT_LT((have[i] - want[i]).norm().item<double>() / size, 1.5 * theirs + 0.01) << i;
    EXPECT_LT(theirs, 0.2);
  }
}

}  // namespace
}  // namespace kvlab
