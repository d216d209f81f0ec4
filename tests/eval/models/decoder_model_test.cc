#include "eval/models/decoder_model.h"

#include <gmock/gmock.h>

#include <stdexcept>

#include "eval/models/recall2.h"
#include "eval/pass_rows.h"
#include "tests/eval/models/cached.h"
#include "tests/eval/models/mqar.h"
#include "tests/eval/models/values.h"
#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using test::mqar_then_queries;
using test::new_cache;
using test::value_at;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using Tokens = std::vector<int32_t>;

class DecoderModelTest : public testing::Test {
 protected:
  Tokens tokens_ = mqar_then_queries(7, 32, 8, 150).tokens;
  std::unique_ptr<Model> model_ = make_decoder_model(make_recall2({2, 1}));
  std::unique_ptr<Cache> cache_ = new_cache(*model_);
  SeqId sequence_ = cache_->add_sequence();
};

TEST_F(DecoderModelTest, GivesTheWantedLogitsInBlocksOfRisingRows) {
  PassRows rows;
  rows.add(sequence_, 0, tokens_, PassRows::Want::all);
  std::vector<int64_t> firsts, sizes;
  model_->forward(*cache_, rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt),
                  [&](int64_t first, TensorView block) {
                    firsts.push_back(first);
                    sizes.push_back(block.size(0));
                    EXPECT_EQ(block.size(1), 32);
                    EXPECT_EQ(block.dtype, Dtype::f32);
                  });
  ASSERT_EQ(tokens_.size(), 166u);
  EXPECT_THAT(firsts, ElementsAre(0, 64, 128));
  EXPECT_THAT(sizes, ElementsAre(64, 64, 38));
}

TEST_F(DecoderModelTest, ComputesNoLogitsThatNobodyWants) {
  PassRows rows;
  rows.add(sequence_, 0, tokens_, PassRows::Want::nothing);
  model_->forward(*cache_, rows.pass(ReadPolicy::raw_chunk, ChunkEnd::chunk),
                  [](int64_t, TensorView) { FAIL(); });
  EXPECT_EQ(cache_->tokens_seen(sequence_), 166);
}

TEST_F(DecoderModelTest, LeavesTheCacheAsItWasWhenAPassFails) {
  PassRows rows;
  rows.add(sequence_, 0, tokens_, PassRows::Want::last);
  const Pass pass = rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt);
  const auto fail = [](int64_t, TensorView) { throw std::runtime_error("full disk"); };
  EXPECT_THROW(model_->forward(*cache_, pass, fail), std::runtime_error);
  EXPECT_FALSE(cache_->in_chunk());
  EXPECT_EQ(cache_->tokens_seen(sequence_), 0);

  const Tensor again = forward_logits(*model_, *cache_, pass);
  const std::unique_ptr<Cache> fresh = new_cache(*model_);
  PassRows same;
  same.add(fresh->add_sequence(), 0, tokens_, PassRows::Want::last);
  const Tensor want =
      forward_logits(*model_, *fresh, same.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt));
  for (int64_t v = 0; v < 32; ++v) EXPECT_EQ(value_at(again.view, v), value_at(want.view, v));
}

TEST_F(DecoderModelTest, RefusesTokensThatAreNone) {
  PassRows rows;
  rows.add(sequence_, 0, Tokens{0, 32}, PassRows::Want::last);
  const Pass pass = rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt);
  EXPECT_THAT(
      error_of([&] { forward_logits(*model_, *cache_, pass); }),
      AllOf(StartsWith("E_POSITION"), HasSubstr("token id 32 of row 1"), HasSubstr("0..31")));
  EXPECT_FALSE(cache_->in_chunk());
}

TEST_F(DecoderModelTest, RefusesTheCacheOfAnotherModel) {
  const auto other = make_decoder_model(make_recall2({2, 2}));
  const std::unique_ptr<Cache> cache = new_cache(*other);
  PassRows rows;
  rows.add(cache->add_sequence(), 0, tokens_, PassRows::Want::last);
  const Pass pass = rows.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt);
  EXPECT_THAT(error_of([&] { forward_logits(*model_, *cache, pass); }),
              AllOf(StartsWith("E_IDENTITY"), HasSubstr("made for")));
}

TEST_F(DecoderModelTest, GoesOnFromAForkAsFromTheWhole) {
  const size_t cut = 100;
  PassRows head, tail, whole;
  head.add(sequence_, 0, std::span(tokens_).first(cut), PassRows::Want::nothing);
  model_->forward(*cache_, head.pass(ReadPolicy::raw_chunk, ChunkEnd::chunk), {});
  const SeqId fork = cache_->fork(sequence_), other = cache_->add_sequence();
  tail.add(fork, cut, std::span(tokens_).subspan(cut), PassRows::Want::all);
  whole.add(other, 0, tokens_, PassRows::Want::all);
  const Tensor got =
      forward_logits(*model_, *cache_, tail.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt));
  const Tensor want =
      forward_logits(*model_, *cache_, whole.pass(ReadPolicy::raw_chunk, ChunkEnd::prompt));
  // Logits reach 12; attention and one GEMM in float32, in another order.
  for (int64_t i = 0; i < got.view.numel(); ++i)
    ASSERT_NEAR(value_at(got.view, i), value_at(want.view, cut * 32 + i), 12 * 0x1p-18);
}

}  // namespace
}  // namespace kvlab
