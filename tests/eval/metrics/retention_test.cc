#include <gmock/gmock.h>

#include "eval/catalogue.h"

namespace kvlab {
namespace {

std::vector<Share> shares(const char* metric, const Outcome& sample) {
  return catalogue().metric(metric).shares(sample, nullptr);
}

TEST(NeedleRetention, IsTheMeanOfAllHeads) {
  // The second layer keeps no list of tokens; the third has one head.
  const auto got = shares("needle_retention", {.retention = {{1, 0.5}, {}, {0}}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].sum, 0.5);
  EXPECT_EQ(got[0].weight, 1);
  EXPECT_TRUE(shares("needle_retention", {}).empty());
  EXPECT_TRUE(shares("needle_retention", {.retention = {{}, {}}}).empty());
}

TEST(NeedleRetention, OfALayerIsTheMeanOfItsSamplesHeadByHead) {
  CellOutcome cell;
  cell.samples = {{.retention = {{1, 0.5}, {}}},
                  {.retention = {{1, 1}, {}}, .is_nan = true},
                  {.retention = {{0, 0.5}, {}}},
                  {}};
  const Metric& metric = catalogue().metric("needle_retention");
  EXPECT_EQ(metric.by_layer(cell), Json({{0.5, 0.5}, nullptr}));
  EXPECT_TRUE(metric.by_layer({}).is_null());
}

TEST(RetrievalGivenKept, CountsSamplesWhoseNeedlesSurvivedInHalfTheHeads) {
  Outcome sample{.texts = {"1"}, .references = {{"1"}}, .retention = {{1, 0.99}, {1, 0}}};
  ASSERT_EQ(shares("retrieval_given_kept", sample).size(), 1u);
  EXPECT_EQ(shares("retrieval_given_kept", sample)[0].sum, 1);
  sample.retention = {{1, 0.99}, {0.99, 0}};
  EXPECT_TRUE(shares("retrieval_given_kept", sample).empty());
  sample.retention = {};
  EXPECT_TRUE(shares("retrieval_given_kept", sample).empty());
}

TEST(RetrievalGivenKept, AWrongAnswerCountsWhereItsNeedlesWereThere) {
  const Outcome sample{.texts = {"2"}, .references = {{"1"}}, .retention = {{1}}};
  const auto got = shares("retrieval_given_kept", sample);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].sum, 0);
}

}  // namespace
}  // namespace kvlab
