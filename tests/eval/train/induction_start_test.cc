// Heads that look back and match, before any training.

#include "eval/train/induction_start.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>

#include <cmath>

#include "eval/autograd/decoder_autograd.h"
#include "eval/random.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

constexpr int64_t kVocab = 512, kHalf = 40;

Json model(int kv_heads, int layers) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", kVocab},
          {"hidden_size", 256},
          {"intermediate_size", 64},
          {"num_hidden_layers", layers},
          {"num_attention_heads", 4},
          {"num_key_value_heads", kv_heads},
          {"head_dim", 64},
          {"hidden_act", "silu"},
          {"max_position_embeddings", 2048},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", true}};
}

/// Normal numbers of 0.02, branches that are the identity, norms 1.
DecoderTensors drawn(const DecoderConfig& config) {
  DecoderTensors weights;
  SplitMix64 random(5);
  for_each_weight(config, weights, [&](const std::string& name, const auto& sizes, at::Tensor& w) {
    w = at::zeros(sizes, at::kFloat);
    if (w.dim() == 1) return void(w.fill_(1));
    if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")) return;
    float* out = w.data_ptr<float>();
    for (int64_t i = 0; i < w.numel(); ++i)  // variance of twelve uniform numbers: 1
      for (int n = 0; n < 12; ++n) out[i] += static_cast<float>(0.02 * (random.u01() - 0.5));
  });
  return weights;
}

/// 40 different tokens, said twice.
at::Tensor said_twice() {
  at::Tensor ids = at::empty({1, 2 * kHalf}, at::kLong);
  const std::vector<int32_t> drawn = SplitMix64(9).sample_range(1, kVocab, kHalf);
  for (int64_t t = 0; t < 2 * kHalf; ++t)
    ids.data_ptr<int64_t>()[t] = drawn[static_cast<size_t>(t % kHalf)];
  return ids;
}

/// "a b c" and "d b e" of different letters, eight times, and all of it again: what follows b
/// depends on what is before it.
constexpr int64_t kGroups = 8;
at::Tensor by_the_letter_before() {
  const std::vector<int32_t> letters = SplitMix64(9).sample_range(1, kVocab, 5 * kGroups);
  at::Tensor ids = at::empty({1, 12 * kGroups}, at::kLong);
  for (int64_t t = 0; t < 12 * kGroups; ++t) {
    constexpr int64_t kLetter[] = {0, 1, 2, 3, 1, 4};
    const int64_t group = t / 6 % kGroups;
    ids.data_ptr<int64_t>()[t] = letters[static_cast<size_t>(5 * group + kLetter[t % 6])];
  }
  return ids;
}

class InductionStart : public testing::TestWithParam<std::tuple<int, Match>> {
 protected:
  InductionStart() : config_(decoder_config(model(std::get<0>(GetParam()), 2), "test")) {
    look_at(said_twice());
  }
  Match match() const { return std::get<1>(GetParam()); }
  void look_at(const at::Tensor& ids) {
    const c10::NoGradGuard no_grad;
    probs_.clear();
    DecoderTensors weights = drawn(config_);
    add_induction_heads(config_, match(), 1, weights);
    const DecoderAutograd network(config_, weights, Dtype::f32);
    network.hidden(ids, [&](const AttentionSite& site) {
      const at::Tensor q = network.rotated(site.queries), k = network.rotated(site.keys_pre_rope);
      const int64_t group = config_.num_heads / config_.num_kv_heads;
      const at::Tensor keys = k.repeat_interleave(group, 2).permute({0, 2, 3, 1});
      at::Tensor logits = at::matmul(q.permute({0, 2, 1, 3}), keys) * config_.attention_scale;
      const at::Tensor future = at::empty_like(logits).fill_(-INFINITY).triu(1);
      probs_.push_back(at::softmax(logits.masked_fill(future.isinf(), -INFINITY), -1));
      return network.attend(site.layer, q, k, site.values);
    });
  }
  double probability(int layer, int head, int64_t query, int64_t key) const {
    return probs_[static_cast<size_t>(layer)][0][head][query][key].item<double>();
  }
  int query_head(int pair) const { return pair * config_.num_heads / config_.num_kv_heads; }

  DecoderConfig config_;
  std::vector<at::Tensor> probs_{};
};

TEST_P(InductionStart, TheFirstLayerLooksBack) {
  for (const int pair : {0, 1})
    for (const int64_t at : {5, 20, 79})
      EXPECT_GT(probability(0, query_head(pair), at, at - pair - 1), 0.8) << pair << " " << at;
}

TEST_P(InductionStart, TheSecondFindsWhatFollowedThePresentToken) {
  double sum = 0;
  for (int64_t at = kHalf; at < 2 * kHalf; ++at) sum += probability(1, 0, at, at - kHalf + 1);
  EXPECT_GT(sum / kHalf, 5.0 / 60) << "five times an even look at sixty tokens";
}

class PairStart : public InductionStart {};

TEST_P(PairStart, FindsWhatFollowedTwoTokens) {
  look_at(by_the_letter_before());
  double right = 0, wrong = 0;
  for (int64_t group = 0; group < kGroups; ++group) {
    const int64_t first = 6 * group, second = first + 6 * kGroups;  // "a b c d b e" here and again
    for (const auto& [asked, answer, other] : {std::tuple{1, 2, 5}, {4, 5, 2}}) {
      right += probability(1, query_head(1), second + asked, first + answer);
      wrong += probability(1, query_head(1), second + asked, first + other);
    }
  }
  EXPECT_GT(right, 1.5 * wrong);
}

INSTANTIATE_TEST_SUITE_P(KvHeads, InductionStart,
                         testing::Combine(testing::Values(4, 2),
                                          testing::Values(Match::tokens, Match::pairs)));
INSTANTIATE_TEST_SUITE_P(KvHeads, PairStart,
                         testing::Combine(testing::Values(4, 2), testing::Values(Match::pairs)));

TEST(InductionStartOf, AnArchitectureWithoutRoomForItIsRefused) {
  for (const auto& [kv_heads, layers] : {std::pair{1, 2}, {4, 1}}) {
    const DecoderConfig config = decoder_config(model(kv_heads, layers), "test");
    DecoderTensors weights = drawn(config);
    EXPECT_REFUSED("E_CONFIG", "two layers, two kv heads",
                   add_induction_heads(config, Match::tokens, 1, weights));
  }
}

}  // namespace
}  // namespace kvlab
