#include "eval/models/encoder_decoder_model.h"

#include <gmock/gmock.h>

#include <map>
#include <numeric>

#include "eval/pass_rows.h"
#include "tests/eval/models/cached.h"
#include "tests/eval/models/random_t5.h"
#include "tests/eval/models/values.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using test::new_cache;
using test::RandomT5;
using test::value_at;
using Tokens = std::vector<int32_t>;

constexpr int64_t kTokenIds = 41;

Tokens made_up(int64_t n, int64_t step) {
  Tokens tokens;
  for (int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<int32_t>((3 + i * step) % kTokenIds));
  return tokens;
}

class EncoderDecoderModelTest : public testing::Test {
 protected:
  Tensor forward(Cache& cache, SeqId sequence, std::span<const int32_t> tokens,
                 PassRows::Want want = PassRows::Want::all) {
    PassRows rows;
    rows.add(sequence, cache.tokens_seen(sequence), tokens, want);
    return forward_logits(*model_, cache, rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt));
  }
  void encode(SeqId sequence, const Tokens& source) {
    model_->encode(*cache_, {.sequence = sequence, .token_ids = source});
  }

  const Tokens source_ = made_up(30, 7), target_ = made_up(26, 5);
  std::unique_ptr<Model> model_ = RandomT5().model();
  std::unique_ptr<Cache> cache_ = new_cache(*model_);
  SeqId sequence_ = cache_->add_sequence();
};

TEST_F(EncoderDecoderModelTest, EncodesOnceAndCountsBothKindsOfTokens) {
  EXPECT_TRUE(model_->has_encoder());
  encode(sequence_, source_);
  EXPECT_EQ(cache_->encoder_tokens_seen(sequence_), 30);
  EXPECT_EQ(cache_->tokens_seen(sequence_), 0);
  forward(*cache_, sequence_, target_);
  EXPECT_EQ(cache_->tokens_seen(sequence_), 26);
  // float32: twice the 16-bit formula.
  EXPECT_EQ(cache_->bytes().cache_bytes(), 2 * dense_bytes(model_->shape(), 26, 30));
  EXPECT_REFUSED("E_POSITION", "has seen 30 tokens", encode(sequence_, source_));
}

TEST_F(EncoderDecoderModelTest, RefusesADecoderThatHasNothingToRead) {
  EXPECT_REFUSED("E_ORDER", "has no encoder tokens", forward(*cache_, sequence_, target_));
  EXPECT_FALSE(cache_->in_chunk());
  EXPECT_EQ(cache_->tokens_seen(sequence_), 0);
  EXPECT_REFUSED("E_SHAPE", "no tokens", encode(sequence_, {}));
  EXPECT_REFUSED("E_POSITION", "token id 41", encode(sequence_, {41}));
  const Tensor features = make_tensor("", Dtype::f32, {10, 4});
  EXPECT_REFUSED("E_UNSUPPORTED", "reads tokens",
                 model_->encode(*cache_, {.sequence = sequence_, .features = features.view}));
}

TEST_F(EncoderDecoderModelTest, SequencesOfABatchReadTheirOwnSources) {
  const SeqId other = cache_->add_sequence();
  const Tokens shorter = made_up(3, 11);
  encode(sequence_, source_);
  encode(other, shorter);
  PassRows both;
  both.add(sequence_, 0, target_, PassRows::Want::all);
  both.add(other, 0, target_, PassRows::Want::all);
  const Tensor got =
      forward_logits(*model_, *cache_, both.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt));
  for (const Tokens& source : {source_, shorter}) {
    const SeqId alone = cache_->add_sequence();
    encode(alone, source);
    const Tensor want = forward(*cache_, alone, target_);
    const int64_t first = source.size() == 30 ? 0 : 26 * kTokenIds;
    for (int64_t i = 0; i < want.view.numel(); ++i)
      ASSERT_NEAR(value_at(got.view, first + i), value_at(want.view, i), 1e-4);
  }
}

TEST_F(EncoderDecoderModelTest, AForkKeepsItsSource) {
  encode(sequence_, source_);
  forward(*cache_, sequence_, std::span(target_).first(10));
  const SeqId fork = cache_->fork(sequence_);
  const Tensor got = forward(*cache_, fork, std::span(target_).subspan(10));
  const Tensor want = forward(*cache_, sequence_, std::span(target_).subspan(10));
  for (int64_t i = 0; i < want.view.numel(); ++i)
    ASSERT_EQ(value_at(got.view, i), value_at(want.view, i));
}

TEST_F(EncoderDecoderModelTest, ShowsOfflineStepsBothAttentions) {
  const std::unique_ptr<ModelAccess> access = model_->access();
  Tokens tokens = source_;
  tokens.insert(tokens.end(), target_.begin(), target_.end());  // 56: source 28, target 28
  std::map<int, std::vector<float>> hidden;
  access->visit(tokens, [&](const Tap& tap) {
    const bool crosses = tap.layer % 2 == 1;
    EXPECT_EQ(tap.queries.size(0), 28);
    EXPECT_EQ(tap.queries.size(1), 3);
    EXPECT_EQ(tap.keys_pre_rope.size(2), 16);
    EXPECT_EQ(tap.values.size(0), 28);
    EXPECT_EQ(tap.hidden.size(1), 32);
    const auto* data = tap.hidden.as<const float>();
    if (crosses) hidden[tap.layer] = {data, data + tap.hidden.numel()};
  });
  ASSERT_EQ(hidden.size(), 2U);
  EXPECT_EQ(hidden[1], hidden[3]) << "one encoder output for all";
  EXPECT_REFUSED("E_SHAPE", "source and target", access->visit(Tokens{3}, [](const Tap&) {}));
  EXPECT_REFUSED("E_UNSUPPORTED", "gradients", access->loss(tokens, {}));
}

// keys of a tap = the site's key projection of the tap's hidden rows.
TEST_F(EncoderDecoderModelTest, NamesTheWeightsOfASite) {
  const std::unique_ptr<ModelAccess> access = model_->access();
  int taps = 0;
  access->visit(made_up(20, 3), [&](const Tap& tap) {
    ++taps;
    for (const auto& [role, rows] : {std::pair{"key", tap.keys_pre_rope}, {"value", tap.values}}) {
      const TensorView weight = access->weight(role, tap.layer);
      ASSERT_EQ(weight.size(0), 48);
      for (int64_t c = 0; c < 48; c += 5) {
        double want = 0;
        for (int64_t i = 0; i < 32; ++i)
          want += value_at(weight, c * 32 + i) * value_at(tap.hidden, 2 * 32 + i);
        EXPECT_NEAR(value_at(rows, 2 * 48 + c), want, 1e-4) << tap.layer << role;
      }
    }
  });
  EXPECT_EQ(taps, 4);
  EXPECT_FALSE(access->weight("key_bias", 0));
  EXPECT_EQ(access->weight("head", 0).data, access->weight("embedding", 0).data);
  EXPECT_REFUSED("E_LAYER", "0..3", access->weight("key", 4));
  EXPECT_REFUSED("E_UNKNOWN", "`key`", access->weight("keys", 1));
}

}  // namespace
}  // namespace kvlab
