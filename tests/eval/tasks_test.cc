// What the generated tasks ask, sample by sample.

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "eval/catalogue.h"
#include "eval/experiment/config.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using Ids = std::vector<int32_t>;

ModelShape shape(int64_t vocab, int64_t max_positions = 0) {
  ModelShape made;
  made.vocab_size = vocab;
  made.max_positions = max_positions;
  return made;
}

Work prepare(const Json& task, const ModelShape& shape, uint64_t seed = 7) {
  const TaskSpec spec = parse_task(task, catalogue());
  return catalogue().task(spec.name).prepare(
      {.params = &spec.params, .seed = seed, .shape = &shape});
}

Ids joined(const Sample& sample) {
  Ids ids = sample.context.ids;
  for (const Turn& turn : sample.turns) {
    ids.insert(ids.end(), turn.query.ids.begin(), turn.query.ids.end());
  }
  return ids;
}

TEST(Mqar, IsTheSpecifiedStream) {
  const Sample sample =
      prepare({{"builtin", "mqar"}, {"pairs", 4}, {"length", 24}}, shape(32)).sample(0);
  EXPECT_THAT(joined(sample), ElementsAreArray(Ids{0, 7, 18, 3, 17, 8, 24, 12, 26, 12, 0, 0,
                                                   0, 7, 0,  0, 0,  8, 0,  0,  0,  3,  0, 0}));
  EXPECT_EQ(sample.context.ids.size(), 9u);
  EXPECT_THAT(sample.context.labels, Each(kUnscored));
  EXPECT_THAT(sample.turns[0].query.labels,
              ElementsAreArray(Ids{26, -1, -1, -1, 18, -1, -1, -1, 24, -1, -1, -1, 17, -1, -1}));
}

TEST(Mqar, QueriesFollowTheCompressionPoint) {
  const Work work = prepare({{"builtin", "mqar"}, {"pairs", 8}, {"context", 128}}, shape(32));
  EXPECT_EQ(work.count, 32);
  for (int64_t i = 0; i < work.count; ++i) {
    const Sample sample = work.sample(i);
    ASSERT_EQ(sample.context.ids.size(), 128u);
    ASSERT_EQ(sample.turns[0].query.ids.size(), 16u);
    std::map<int32_t, int32_t> pairs;
    for (size_t at = 1; at < 17; at += 2) {
      pairs[sample.context.ids[at]] = sample.context.ids[at + 1];
    }
    EXPECT_EQ(pairs.size(), 8u);
    const Fed& query = sample.turns[0].query;
    for (size_t at = 0; at < query.ids.size(); at += 2) {
      EXPECT_EQ(query.labels[at], pairs.at(query.ids[at])) << "sample " << i;
    }
  }
}

TEST(Mqar, AsPromptIsTheSameStream) {
  const Json task{{"builtin", "mqar"}, {"pairs", 4}, {"length", 24}};
  Json prompt = task;
  prompt["protocol"] = "prefill";
  const Sample sample = prepare(prompt, shape(32)).sample(3);
  EXPECT_EQ(sample.context.ids, joined(prepare(task, shape(32)).sample(3)));
  EXPECT_TRUE(sample.turns.empty());
}

TEST(Mqar, PowerLawFavoursEarlySlots) {
  const Work work = prepare(
      {{"builtin", "mqar"}, {"pairs", 1}, {"length", 203}, {"power_a", 0.01}, {"samples", 2000}},
      shape(32));
  // Slot s of 100 has weight (s+1)^-0.99: the first has 1 / sum.
  double sum = 0;
  for (int s = 1; s <= 100; ++s) sum += std::pow(s, -0.99);
  double first = 0;
  for (int64_t i = 0; i < work.count; ++i) {
    first += work.sample(i).turns[0].query.labels[0] != kUnscored;
  }
  const double p = 1 / sum, n = 2000;
  EXPECT_NEAR(first / n, p, 4 * std::sqrt(p * (1 - p) / n));  // seed 7
}

TEST(Mqar, PowerLawDrawsWithoutReplacement) {
  const Sample sample = prepare({{"builtin", "mqar"}, {"pairs", 8}, {"power_a", 0.5}}, shape(32))
                            .sample(0);  // as many slots as queries: all must be used
  for (size_t at = 0; at < 16; at += 2) EXPECT_NE(sample.turns[0].query.labels[at], kUnscored);
}

TEST(Mqar, RefusesShapesThatCannotBe) {
  const auto refuse = [](Json task, int64_t vocab, int64_t positions = 0) {
    task["builtin"] = "mqar";
    return prepare(task, shape(vocab, positions));
  };
  EXPECT_REFUSED("E_MQAR_SHAPE", "16 pairs", refuse({{"pairs", 16}}, 32));
  EXPECT_NO_THROW(refuse({{"pairs", 15}}, 32));
  EXPECT_REFUSED("E_MQAR_SHAPE", "at least 33", refuse({{"pairs", 8}, {"length", 32}}, 64));
  EXPECT_NO_THROW(refuse({{"pairs", 8}, {"length", 33}}, 64));
  EXPECT_REFUSED("E_MQAR_SHAPE", "too short", refuse({{"pairs", 8}, {"context", 16}}, 64));
  EXPECT_REFUSED("E_CONTEXT_TOO_LONG", "144", refuse({{"pairs", 8}, {"context", 128}}, 64, 143));
}

TEST(Copy, GoesOnWithTheTokensAfterTheFirst) {
  const Work work = prepare({{"builtin", "copy"}, {"tokens", 5}}, shape(32));
  const Sample sample = work.sample(0);
  const Ids& context = sample.context.ids;
  ASSERT_EQ(context.size(), 7u);
  EXPECT_EQ(context.front(), 0);
  EXPECT_EQ(context.back(), 31);
  EXPECT_EQ(std::set<int32_t>(context.begin(), context.end()).size(), 7u);
  EXPECT_THAT(sample.turns[0].query.ids, ElementsAre(context[1]));
  EXPECT_THAT(sample.turns[0].answer, ElementsAre(context[2], context[3], context[4], context[5]));
  EXPECT_EQ(sample.turns[0].max_new_tokens, 4);
}

TEST(Copy, NeedsAsManyTokensAsItDraws) {
  EXPECT_REFUSED("E_CONFIG", "31 distinct",
                 prepare({{"builtin", "copy"}, {"tokens", 31}}, shape(32)));
  EXPECT_NO_THROW(prepare({{"builtin", "copy"}, {"tokens", 30}}, shape(32)));
}

TEST(Tasks, DependOnSeedAndIndexAlone) {
  for (const char* name : {"mqar", "copy"}) {
    const Work a = prepare({{"builtin", name}, {"samples", 3}}, shape(64));
    const Work b = prepare({{"builtin", name}, {"samples", 9}}, shape(64));
    const Work other = prepare({{"builtin", name}}, shape(64), 8);
    EXPECT_EQ(describe(a.sample(2)), describe(b.sample(2))) << name;
    EXPECT_NE(describe(a.sample(1)), describe(a.sample(2))) << name;
    EXPECT_NE(describe(a.sample(2)), describe(other.sample(2))) << name;
  }
}

class Perplexity : public testing::Test {
 protected:
  Work prepare(Json params, const std::vector<int32_t>& tokens, bool adds_bos = false,
               int32_t begin_token = -1) {
    params["ppl"] = params.value("ppl", "disjoint");
    params["tokens"] = "a file";
    const TaskSpec spec = parse_task(params, catalogue());
    const ModelShape made = shape(100);
    const TaskSetup setup{.params = &spec.params,
                          .shape = &made,
                          .begin_token = begin_token,
                          .read_tokens = [&](const auto&) {
                            return Text{.tokens = tokens, .tokenizer_adds_bos = adds_bos};
                          }};
    return catalogue().task("ppl").prepare(setup);
  }
};

TEST_F(Perplexity, ATokenFileIsFedAsItIs) {
  const Work work = prepare({{"Lw", 4}}, {5, 6, 7, 8, 9}, false, 1);
  EXPECT_EQ(work.count, 1);
  EXPECT_THAT(work.sample(0).context.ids, ElementsAre(5, 6, 7));
  EXPECT_EQ(work.facts.at("bos"), "none");
  EXPECT_EQ(work.metric_suffix, "_disjoint4");
}

TEST_F(Perplexity, BosStandsWhereTheProtocolPutsIt) {
  const Work text_start = prepare({{"Lw", 3}}, {5, 6, 7, 8, 9}, true, 1);
  EXPECT_EQ(text_start.count, 2);
  EXPECT_THAT(text_start.sample(0).context.ids, ElementsAre(1, 5));
  EXPECT_THAT(text_start.sample(1).context.ids, ElementsAre(7, 8));

  const Work each = prepare({{"ppl", "decode"}, {"P", 1}, {"S", 1}}, {5, 6, 7, 8, 9, 9}, true, 1);
  EXPECT_THAT(each.sample(1).context.ids, ElementsAre(1, 8));
  const Work asked = prepare({{"Lw", 3}, {"bos", "each_window"}}, {5, 6, 7, 8}, false, 1);
  EXPECT_THAT(asked.sample(0).context.ids, ElementsAre(1, 5, 6));
  EXPECT_REFUSED("E_CONFIG", "names no BOS",
                 prepare({{"Lw", 3}, {"bos", "each_window"}}, {5, 6, 7}));
}

TEST_F(Perplexity, MarksTokensThatRepeatADistantBigram) {
  std::vector<int32_t> tokens{1, 2, 3};  // the bigram 2 3 stands at position 2
  tokens.resize(70, 0);
  for (const int32_t token : {9, 2, 3, 9, 2, 3}) tokens.push_back(token);
  const Work work = prepare({{"ppl", "decode"}, {"P", 70}, {"S", 5}}, tokens);
  const Fed query = work.sample(0).turns[0].query;
  EXPECT_THAT(query.ids, ElementsAre(9, 2, 3, 9, 2));
  // Position 72 repeats position 2; at 75 the bigram has just been seen, three tokens ago.
  EXPECT_THAT(query.recall, ElementsAre(0, 1, 0, 0, 0));
}

TEST_F(Perplexity, WantsExactlyOneText) {
  const TaskSpec spec = parse_task({{"ppl", "decode"}}, catalogue());
  const ModelShape made = shape(100, 64);
  EXPECT_REFUSED("E_CONFIG", "exactly one of",
                 catalogue().task("ppl").prepare({.params = &spec.params, .shape = &made}));
}

}  // namespace
}  // namespace kvlab
