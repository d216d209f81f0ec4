// Which feedings read a compressed cache, as a table; and who is refused.

#include "eval/rules.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

/// `tokens` tokens of which those listed have a label.
Fed fed(size_t tokens, std::initializer_list<size_t> scored) {
  Fed one{.ids = std::vector<int32_t>(tokens), .labels = std::vector<int32_t>(tokens, kUnscored)};
  std::iota(one.ids.begin(), one.ids.end(), 0);
  for (const size_t at : scored) one.labels[at] = 1;
  return one;
}

Sample prompt(size_t tokens, std::initializer_list<size_t> scored) {
  return {.id = "s", .context = fed(tokens, scored)};
}

Sample question(size_t context, const Fed& query, int64_t max_new = 0) {
  return {.id = "s", .context = fed(context, {}), .turns = {{query, max_new, {}}}};
}

constexpr ReadPolicy kRaw = ReadPolicy::raw_chunk;

TEST(ReadsCompressed, AOnePassPromptDoesNotUnlessThePolicySaysSo) {
  const Sample sample = prompt(8, {3, 7});
  EXPECT_FALSE(reads_compressed(sample, {.prefill_chunk = 0}));
  EXPECT_FALSE(reads_compressed(sample, {.prefill_chunk = 8}));
  EXPECT_TRUE(reads_compressed(sample, {.prefill_chunk = 0, .read = ReadPolicy::stored}));
  EXPECT_TRUE(reads_compressed(sample, {.prefill_chunk = 0, .read = ReadPolicy::masked}));
}

TEST(ReadsCompressed, AScoredTokenOfALaterChunkDoes) {
  EXPECT_TRUE(reads_compressed(prompt(8, {3, 7}), {.prefill_chunk = 7}));
  EXPECT_FALSE(reads_compressed(prompt(8, {3}), {.prefill_chunk = 4}));
  EXPECT_TRUE(reads_compressed(prompt(8, {4}), {.prefill_chunk = 4}));
}

TEST(ReadsCompressed, TheFirstTokenOfAllReadsNothingThatWasStored) {
  EXPECT_FALSE(reads_compressed(prompt(8, {0}), {.prefill_chunk = 1}));
  EXPECT_FALSE(reads_compressed(prompt(8, {0}), {.read = ReadPolicy::stored}));
}

TEST(ReadsCompressed, AQueryBehindAContextDoes) {
  EXPECT_TRUE(reads_compressed(question(4, fed(2, {1})), {.prefill_chunk = 0}));
  EXPECT_TRUE(reads_compressed(question(4, fed(1, {}), 3), {.prefill_chunk = 0}));
  EXPECT_FALSE(reads_compressed(question(4, fed(2, {})), {.prefill_chunk = 0}));
}

TEST(ReadsCompressed, AQueryWithoutContextIsAPromptItself) {
  EXPECT_FALSE(reads_compressed(question(0, fed(4, {3})), {.query_chunk = 0}));
  EXPECT_TRUE(reads_compressed(question(0, fed(4, {3})), {.query_chunk = 1}));
}

TEST(ReadsCompressed, AQueryMovedIntoThePrefillIsPartOfIt) {
  const Sample sample = question(4, fed(2, {1}));
  EXPECT_FALSE(reads_compressed(sample, {.prefill_chunk = 0, .query_aware = true}));
}

/// A method that stores in another form and does nothing else.
Composition compressing() {
  Composition composition;
  composition.encode = Encode{};
  composition.capabilities = {.causal_write = true};
  return composition;
}

TEST(Rules, AVacuousScoreIsRefused) {
  const Sample sample = prompt(8, {7});
  EXPECT_REFUSED("E_METHOD_CANNOT_MATTER", "bits: every scored token of s",
                 check_matters(compressing(), "bits", sample, {.prefill_chunk = 0}));
  EXPECT_EQ(
      test::error_of([&] { check_matters(compressing(), "bits", sample, {.prefill_chunk = 4}); }),
      "no error");
}

// Encoder tokens are stored before anything is scored, and selectors leave them alone.
TEST(Rules, ASourceIsReadAsItIsStoredByEveryToken) {
  Sample sample = prompt(8, {0});
  sample.encoder_tokens = {1, 2};
  EXPECT_EQ(
      test::error_of([&] { check_matters(compressing(), "bits", sample, {.prefill_chunk = 0}); }),
      "no error");
  Composition selecting;
  selecting.selects = {nullptr};
  EXPECT_REFUSED("E_METHOD_CANNOT_MATTER", "m: every scored token",
                 check_matters(selecting, "m", sample, {.prefill_chunk = 0}));
}

TEST(Rules, AModelAndItsSamplesHaveASourceOrNot) {
  ModelOutline model{.shape = {.architecture = "net"}};
  Sample sample = prompt(8, {7});
  const auto verdict = [&] { return test::error_of([&] { check_source(model, "task", sample); }); };
  EXPECT_EQ(verdict(), "no error");
  sample.encoder_tokens = {1};
  EXPECT_THAT(verdict(), testing::HasSubstr("net has no encoder; leave them out"));
  model.encoder_input = EncoderInput::token_ids;
  EXPECT_EQ(verdict(), "no error");
  sample.encoder_tokens.clear();
  EXPECT_THAT(verdict(), testing::StartsWith("E_CONFIG: task: net has an encoder, and s has no"));
  model.encoder_input = EncoderInput::features;
  EXPECT_THAT(verdict(), testing::HasSubstr("reads features of audio"));
}

TEST(Rules, DenseAndMethodsThatAlterTheForwardPassAreNotRefused) {
  const Sample sample = prompt(8, {7});
  Composition low_rank = compressing();
  low_rank.capabilities.alters_weights = true;
  for (const Composition& composition : {Composition{}, low_rank}) {
    EXPECT_EQ(
        test::error_of([&] { check_matters(composition, "m", sample, {.prefill_chunk = 0}); }),
        "no error");
  }
}

TEST(Rules, WhoLooksAheadMayNotBeReadAsStoredInAScoredPass) {
  Composition ahead = compressing();
  ahead.capabilities.causal_write = false;
  EXPECT_REFUSED("E_NONCAUSAL_STORED_READ", "m: ", check_reading(ahead, "m", ReadPolicy::stored));
  EXPECT_REFUSED("E_NONCAUSAL_STORED_READ", "m: ", check_reading(ahead, "m", ReadPolicy::masked));
  EXPECT_EQ(test::error_of([&] { check_reading(ahead, "m", kRaw); }), "no error");
}

}  // namespace
}  // namespace kvlab
