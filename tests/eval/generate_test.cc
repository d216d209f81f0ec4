#include "eval/generate.h"

#include <gmock/gmock.h>

#include "tests/eval/models/cached.h"
#include "tests/eval/models/mqar.h"
#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using test::new_cache;
using testing::AllOf;
using testing::Each;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

using Tokens = std::vector<int32_t>;
using First = GenerateOptions::First;

/// A text that the recall model goes on repeating.
struct Song {
  Tokens prompt{}, rest{};

  Song(uint64_t seed, size_t length) : prompt(test::repeated(seed, 32, length).tokens) {
    rest.assign(prompt.begin() + 2, prompt.begin() + 1 + static_cast<std::ptrdiff_t>(length));
    prompt.resize(length + 3);  // the separator and the first token again
  }
};

class Generate : public testing::Test {
 protected:
  std::vector<Generated> continued(const std::vector<Tokens>& texts,
                                   const GenerateOptions& options) {
    const std::unique_ptr<Cache> cache = new_cache(*model_);
    std::vector<Prompt> prompts;
    for (const Tokens& text : texts) prompts.push_back({cache->add_sequence(), text});
    return generate(*model_, *cache, prompts, options);
  }
  Tokens continued(const Tokens& text, const GenerateOptions& options) {
    return continued(std::vector<Tokens>{text}, options).at(0).tokens;
  }
  std::string refusal(const GenerateOptions& options, const Tokens& text = {0, 1}) {
    return error_of([&] { continued(text, options); });
  }

  std::unique_ptr<Model> model_ = load_model({{"builtin", "recall2"}});
};

TEST_F(Generate, ContinuesEachOfARaggedBatchAsItWouldAlone) {
  const std::vector<Song> songs{{1, 12}, {2, 3}, {3, 25}};
  const std::vector<Tokens> prompts{songs[0].prompt, songs[1].prompt, songs[2].prompt};
  for (const int64_t chunk : {0, 1, 5, 512})
    for (const First first : {First::of_prompt, First::of_cache}) {
      const auto got = continued(prompts, {.max_new = 24, .prefill_chunk = chunk, .first = first});
      for (size_t i = 0; i < songs.size(); ++i) {
        const Tokens& rest = songs[i].rest;
        ASSERT_EQ(got[i].tokens.size(), 24u);
        EXPECT_THAT(Tokens(got[i].tokens.begin(),
                           got[i].tokens.begin() + static_cast<std::ptrdiff_t>(rest.size())),
                    ElementsAreArray(rest));
        EXPECT_EQ(got[i].end_token, -1);
        EXPECT_EQ(continued(prompts[i], {.max_new = 24}), got[i].tokens);
      }
    }
}

TEST_F(Generate, StopsAtAnEndTokenAndLeavesItOut) {
  const Song song(1, 12), other(2, 12);
  const auto got =
      continued({song.prompt, other.prompt}, {.max_new = 11, .end_tokens = {song.rest[4]}});
  EXPECT_THAT(got[0].tokens, ElementsAreArray(song.rest.begin(), song.rest.begin() + 4));
  EXPECT_EQ(got[0].end_token, song.rest[4]);
  EXPECT_GT(got[1].tokens.size(), 0u);
}

TEST_F(Generate, HoldsInTheCacheEverythingButTheLastToken) {
  const Song song(1, 12);
  const std::unique_ptr<Cache> cache = new_cache(*model_);
  const SeqId sequence = cache->add_sequence();
  const std::vector<Prompt> prompts{{sequence, song.prompt}};
  generate(*model_, *cache, prompts, {.max_new = 5});
  EXPECT_EQ(cache->tokens_seen(sequence), 15 + 4);
}

TEST_F(Generate, ContinuesWhereTheSequenceStands) {
  const Song song(1, 12);
  const std::unique_ptr<Cache> cache = new_cache(*model_);
  const SeqId sequence = cache->add_sequence();
  const std::span<const int32_t> prompt(song.prompt);
  generate(*model_, *cache, std::vector<Prompt>{{sequence, prompt.first(10)}}, {.max_new = 1});
  const auto got = generate(*model_, *cache, std::vector<Prompt>{{sequence, prompt.subspan(10)}},
                            {.max_new = 11});
  EXPECT_THAT(got[0].tokens, ElementsAreArray(song.rest));
}

TEST_F(Generate, SamplesAsItsSeedSays) {
  const Song song(1, 12);
  const GenerateOptions options{.max_new = 40, .sampling = {.temperature = 8, .seed = 5}};
  const Tokens drawn = continued(song.prompt, options);
  EXPECT_EQ(continued(song.prompt, options), drawn);
  GenerateOptions another = options;
  another.sampling.seed = 6;
  EXPECT_NE(continued(song.prompt, another), drawn);
  // A stream per sequence: the same text twice is two draws, the first as alone.
  const auto both = continued({song.prompt, song.prompt}, options);
  EXPECT_EQ(both[0].tokens, drawn);
  EXPECT_NE(both[1].tokens, drawn);
  EXPECT_THAT(drawn, Each(AllOf(testing::Ge(0), testing::Lt(32))));
}

TEST_F(Generate, OfNothingIsNothing) {
  EXPECT_THAT(continued(std::vector<Tokens>{}, {.max_new = 4}), IsEmpty());
  EXPECT_THAT(continued({0, 1}, {.max_new = 0}), IsEmpty());
}

TEST_F(Generate, SaysWhatItCannotDo) {
  EXPECT_THAT(refusal({.max_new = -1}), AllOf(StartsWith("E_CONFIG"), HasSubstr("max_new is -1")));
  EXPECT_THAT(refusal({.max_new = 1, .prefill_chunk = -2}),
              AllOf(StartsWith("E_CONFIG"), HasSubstr("prefill_chunk is -2")));
  EXPECT_THAT(refusal({.max_new = 1}, {}), AllOf(StartsWith("E_SHAPE"), HasSubstr("prompt 0")));
  EXPECT_THAT(refusal({.max_new = 1, .sampling = {.temperature = 1, .top_k = 33}}),
              StartsWith("E_BAD_TOPK"));
  EXPECT_THAT(refusal({.max_new = 1}, {0, 32}), StartsWith("E_POSITION"));
}

}  // namespace
}  // namespace kvlab
