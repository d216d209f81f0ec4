#include "eval/protocol.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/error.h"
#include "core/schema.h"
#include "eval/catalogue.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using Positions = std::vector<int64_t>;

/// The windows of "name(a,b)" over n tokens.
Cut cut(const std::string& text, int64_t n, int64_t max_positions = 0) {
  Json params = parse_protocol(text, catalogue());
  const Protocol& protocol = catalogue().protocol(params["ppl"].get<std::string>());
  params.erase("ppl");
  const Json complete = Schema::parse(protocol.schema, protocol.name).complete(params, "test");
  return protocol.cut(complete, {n, max_positions});
}

Positions scored(const Window& window) {
  Positions tokens;
  for (int64_t t = window.scored.first; t < window.scored.last; ++t) tokens.push_back(t);
  return tokens;
}

std::vector<Positions> scored(const Cut& cut) {
  std::vector<Positions> all;
  for (const Window& window : cut.windows) all.push_back(scored(window));
  return all;
}

TEST(Strided, ScoresWhatTheWindowBeforeDidNotReach) {
  EXPECT_THAT(scored(cut("strided(4,2)", 10)),
              ElementsAre(Positions{1, 2, 3}, Positions{4, 5}, Positions{6, 7}, Positions{8, 9}));
  EXPECT_THAT(scored(cut("strided(4,4)", 10)),
              ElementsAre(Positions{1, 2, 3}, Positions{5, 6, 7}, Positions{9}));
  EXPECT_THAT(scored(cut("strided(6,3)", 11)),
              ElementsAre(Positions{1, 2, 3, 4, 5}, Positions{6, 7, 8}, Positions{9, 10}));
}

TEST(Strided, LeavesOutAWindowWithNothingToScore) {
  EXPECT_THAT(scored(cut("strided(4,4)", 9)), ElementsAre(Positions{1, 2, 3}, Positions{5, 6, 7}));
}

TEST(Strided, CountsEveryTokenOnce) {  // NLL of token i = i: mean 5, where window means give 4.25
  double sum = 0, count = 0;
  for (const Positions& tokens : scored(cut("strided(4,2)", 10))) {
    for (const int64_t t : tokens) sum += static_cast<double>(t), ++count;
  }
  EXPECT_DOUBLE_EQ(sum / count, 5.0);
  EXPECT_NEAR(std::exp(sum / count), 148.4132, 5e-5);
}

TEST(Strided, RefusesAStrideThatSkipsTokens) {
  EXPECT_REFUSED("E_BAD_STRIDE", "S = 5", cut("strided(4,5)", 10));
  EXPECT_REFUSED("E_BAD_STRIDE", "S = 0", cut("strided(4,0)", 10));
}

TEST(Rolling, ScoresEveryTokenOnceAfterAPrefix) {
  const Cut all = cut("rolling(4)", 10);
  EXPECT_THAT(scored(all),
              ElementsAre(Positions{0, 1, 2, 3}, Positions{4, 5, 6, 7}, Positions{8, 9}));
  EXPECT_TRUE(all.windows[0].prefixed);
  EXPECT_EQ(all.windows[0].fed, (Range{0, 3}));
  EXPECT_EQ(all.windows[1].fed, (Range{3, 7}));
  EXPECT_EQ(all.windows[2].fed, (Range{5, 9}));  // extended to the left
}

TEST(Half, ScoresTheSecondHalfOfEachChunk) {
  EXPECT_THAT(scored(cut("half(8)", 16)), ElementsAre(Positions{5, 6, 7}, Positions{13, 14, 15}));
  EXPECT_REFUSED("E_TEXT_TOO_SHORT", "16", cut("half(8)", 15));
}

TEST(Disjoint, DropsTheRemainder) {
  const Cut all = cut("disjoint(8)", 23);
  EXPECT_THAT(scored(all),
              ElementsAre(Positions{1, 2, 3, 4, 5, 6, 7}, Positions{9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(all.metric_suffix, "_disjoint8");
  EXPECT_EQ(all.prefill_chunk, 0);
}

TEST(Decode, DoesNotScoreTheTokenWhoseLogitsCameFromThePrefill) {
  const Cut all = cut("decode(5,3,2,4)", 20);
  EXPECT_THAT(scored(all), ElementsAre(Positions{6, 7, 8}, Positions{15, 16, 17}));
  EXPECT_EQ(all.windows[1].fed, (Range{9, 17}));
  EXPECT_EQ(all.windows[1].prompt, 5);
  EXPECT_EQ(all.score_chunk, 2);
  EXPECT_EQ(all.prefill_chunk, 4);
}

TEST(Decode, TakesItsLengthsFromTheModel) {
  EXPECT_EQ(cut("decode", 5000, 1024).label, "decode(768,255,1)");
  EXPECT_EQ(cut("decode", 100, 60).label, "decode(45,14,1)");  // below 64 nothing is rounded
  EXPECT_REFUSED("E_BAD_WINDOW", "decode(768,255)", cut("decode", 5000));
}

TEST(Decode, RefusesWindowsThatCannotBe) {
  EXPECT_REFUSED("E_BAD_WINDOW", "P = 0", cut("decode(0,3)", 20));
  EXPECT_REFUSED("E_BAD_WINDOW", "S = 0", cut("decode(3,0)", 20));
  EXPECT_REFUSED("E_TEXT_TOO_SHORT", "needs 9 tokens, the text has 8", cut("decode(5,3)", 8));
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "takes 9 positions, the model has 8",
                 cut("decode(5,3)", 20, 8));
  EXPECT_NO_THROW(cut("decode(5,3)", 9, 9));
}

TEST(Decode, FrozenReadsEverythingAfterThePrefixInOnePass) {
  const Protocol& decode = catalogue().protocol("decode");
  const Json params = Schema::parse(decode.schema, "decode")
                          .complete({{"P", 5}, {"S", 3}, {"freeze", true}}, "test");
  const Cut frozen = decode.cut(params, {20, 0});
  EXPECT_EQ(frozen.score_chunk, 0);
  EXPECT_TRUE(frozen.needs_raw_chunk);
}

TEST(Stream, FeedsEverythingFromAnEmptyCache) {
  const Cut all = cut("stream", 4);
  EXPECT_THAT(scored(all), ElementsAre(Positions{1, 2, 3}));
  EXPECT_EQ(all.windows[0].prompt, 0);
  EXPECT_EQ(all.score_chunk, 1);
}

TEST(ParseProtocol, NamesTheValuesInTheirOrder) {
  EXPECT_EQ(parse_protocol("decode", catalogue()), (Json{{"ppl", "decode"}}));
  EXPECT_EQ(parse_protocol(" decode( 768 ,255,1,512 )", catalogue()),
            (Json{{"ppl", "decode"}, {"P", 768}, {"S", 255}, {"c", 1}, {"g", 512}}));
  EXPECT_EQ(parse_protocol("disjoint(2048)", catalogue())["Lw"], 2048);
}

TEST(ParseProtocol, SaysWhatIsWrong) {
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `decode`", parse_protocol("decoder", catalogue()));
  EXPECT_REFUSED("E_CONFIG", "at most 1", parse_protocol("disjoint(1,2)", catalogue()));
  EXPECT_REFUSED("E_CONFIG", "`x` is not an integer", parse_protocol("decode(x)", catalogue()));
  EXPECT_REFUSED("E_CONFIG", "closing", parse_protocol("decode(1,2", catalogue()));
  EXPECT_REFUSED("E_CONFIG", "not an integer", parse_protocol("decode(1,,2)", catalogue()));
}

// Tokens 10..19; the window feeds the first six and scores tokens 4, 5 and 6.
class WindowSample : public testing::Test {
 protected:
  std::vector<int32_t> tokens_{10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
  Window window_{.fed = {0, 6}, .prompt = 4, .scored = {4, 7}};
};

TEST_F(WindowSample, LabelsAreTheTokensThatFollow) {
  const Sample sample = window_sample(window_, tokens_, Bos::none, -1);
  EXPECT_THAT(sample.context.ids, ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(sample.context.labels, ElementsAre(-1, -1, -1, 14));
  EXPECT_THAT(sample.turns[0].query.ids, ElementsAre(14, 15));
  EXPECT_THAT(sample.turns[0].query.labels, ElementsAre(15, 16));
}

TEST_F(WindowSample, BosStandsAheadOrInPlace) {
  EXPECT_THAT(window_sample(window_, tokens_, Bos::each_window, 1).context.ids,
              ElementsAre(1, 10, 11, 12, 13));
  const Sample replaced = window_sample(window_, tokens_, Bos::replace_first, 1);
  EXPECT_THAT(replaced.context.ids, ElementsAre(1, 11, 12, 13));
  EXPECT_THAT(replaced.context.labels, ElementsAre(-1, -1, -1, 14));
}

TEST_F(WindowSample, APrefixScoresTheFirstToken) {
  Window first = whole_window({0, 3}, {0, 4});
  first.prefixed = true;
  const Sample sample = window_sample(first, tokens_, Bos::none, 1);
  EXPECT_THAT(sample.context.ids, ElementsAre(1, 10, 11, 12));
  EXPECT_THAT(sample.context.labels, ElementsAre(10, 11, 12, 13));
  EXPECT_TRUE(sample.turns.empty());
}

}  // namespace
}  // namespace kvlab
