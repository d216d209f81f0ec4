#include "eval/pareto.h"

#include <gmock/gmock.h>

namespace kvlab {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

const std::vector<Tradeoff> kPoints{{1, 90}, {2, 89}, {2.5, 89.5}, {3.9, 81}, {4, 80}, {8, 60}};

TEST(Pareto, TheFrontLeavesOutWhatIsBeaten) {
  EXPECT_THAT(pareto_front(kPoints), ElementsAre(0, 2, 3, 4, 5));
  EXPECT_THAT(pareto_front({}), IsEmpty());
  const std::vector<Tradeoff> shuffled{{8, 60}, {2, 89}, {1, 90}, {2.5, 89.5}};
  EXPECT_THAT(pareto_front(shuffled), ElementsAre(2, 3, 0));
}

TEST(Pareto, OfEqualsOneIsOnTheFront) {
  const std::vector<Tradeoff> equal{{2, 5}, {2, 5}, {2, 4}, {1, 5}};
  EXPECT_THAT(pareto_front(equal), ElementsAre(0));
}

TEST(Pareto, GivesTheSpecifiedNumbers) {
  EXPECT_THAT(cr_at_share(kPoints, 90, 0.99), Optional(DoubleNear(2.5528672, 5e-8)));
  EXPECT_THAT(pareto_mean(kPoints, 90), Optional(DoubleNear(0.9121303, 5e-8)));
}

TEST(Pareto, ACurveBeginsAtDenseWhichIsNoneOfItsSettings) {
  const std::vector<Tradeoff> settings(kPoints.begin() + 1, kPoints.end());
  const std::vector<Curve> all = curves(kPoints[0], {{"b", settings}, {"a", {{2, 1}}}});
  ASSERT_EQ(all.size(), 1) << "one setting is no curve";
  EXPECT_EQ(all[0].method, "b");
  EXPECT_EQ(all[0].settings, 5);
  EXPECT_EQ(all[0].on_front, 4);
  EXPECT_THAT(all[0].cr_at_1pct, Optional(DoubleNear(2.5528672, 5e-8)));
  EXPECT_THAT(all[0].mean, Optional(DoubleNear(0.9121303, 5e-8)));
}

TEST(Pareto, SaysNothingWhereThereIsNoCurve) {
  const std::vector<Tradeoff> bad{{4, 10}, {8, 5}}, one{{4, 90}};
  EXPECT_EQ(cr_at_share(bad, 90, 0.99), std::nullopt) << "nobody is good enough";
  EXPECT_EQ(cr_at_share(one, 90, 0.99), 4) << "the last point that is";
  EXPECT_EQ(pareto_mean(one, 90), std::nullopt);
  EXPECT_EQ(pareto_mean(bad, 0), std::nullopt);
}

}  // namespace
}  // namespace kvlab
