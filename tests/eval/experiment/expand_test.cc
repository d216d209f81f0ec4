#include "eval/experiment/expand.h"

#include <gmock/gmock.h>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;

std::vector<std::string> expanded(const char* text) {
  std::vector<std::string> all;
  for (const Json& one : expand(Json::parse(text), "test")) all.push_back(one.dump());
  return all;
}

TEST(Expand, AValueWithoutWordsIsItself) {
  EXPECT_THAT(expanded(R"({"a": [1, {"b": null}], "c": "sweep"})"),
              ElementsAre(R"({"a":[1,{"b":null}],"c":"sweep"})"));
}

TEST(Expand, SweepsMakeAProductTheLastKeyFastest) {
  EXPECT_THAT(expanded(R"({"b": {"sweep": [1, 2]}, "a": {"sweep": ["x", "y"]}})"),
              ElementsAre(R"({"a":"x","b":1})", R"({"a":"x","b":2})", R"({"a":"y","b":1})",
                          R"({"a":"y","b":2})"));
}

TEST(Expand, ReachesIntoListsAndSweeps) {
  EXPECT_THAT(expanded(R"([{"sweep": [1, {"sweep": [2, 3]}]}, 9])"),
              ElementsAre("[1,9]", "[2,9]", "[3,9]"));
}

TEST(Expand, ZipPairs) {
  EXPECT_THAT(expanded(R"({"zip": {"a": [1, 2], "b": [3, 4]}, "c": {"sweep": [5, 6]}})"),
              ElementsAre(R"({"a":1,"b":3,"c":5})", R"({"a":2,"b":4,"c":5})",
                          R"({"a":1,"b":3,"c":6})", R"({"a":2,"b":4,"c":6})"));
}

TEST(Expand, RangesIncludeTheirEnd) {
  EXPECT_THAT(expanded(R"({"range": {"from": 1, "to": 7, "step": 3}})"),
              ElementsAre("1", "4", "7"));
  EXPECT_THAT(expanded(R"({"range": {"from": 16, "to": 128, "factor": 2}})"),
              ElementsAre("16", "32", "64", "128"));
  EXPECT_EQ(expanded(R"({"range": {"from": 0.1, "to": 0.3, "step": 0.1}})").size(), 3u);
}

TEST(Expand, SaysWhatIsWrong) {
  EXPECT_REFUSED("E_CONFIG", "at least one", expanded(R"({"sweep": []})"));
  EXPECT_REFUSED("E_CONFIG", "`b` has 1", expanded(R"({"zip": {"a": [1, 2], "b": [3]}})"));
  EXPECT_REFUSED("E_CONFIG", "must be an object of lists", expanded(R"({"zip": 3, "a": 1})"));
  EXPECT_REFUSED("E_CONFIG", "one of \"step\" and \"factor\"",
                 expanded(R"({"range": {"from": 1, "to": 2}})"));
  EXPECT_REFUSED("E_CONFIG", "step must be above 0",
                 expanded(R"({"range": {"from": 1, "to": 2, "step": 0}})"));
  EXPECT_REFUSED("E_CONFIG", "factor must be above 1",
                 expanded(R"({"range": {"from": 1, "to": 2, "factor": 1}})"));
  EXPECT_REFUSED("E_CONFIG", "holds no value",
                 expanded(R"({"range": {"from": 3, "to": 2, "step": 1}})"));
}

TEST(Expand, RefusesMoreThanAnybodyCouldRun) {
  EXPECT_REFUSED("E_CONFIG", "more than 10000",
                 expanded(R"({"range": {"from": 1, "to": 1e9, "step": 1}})"));
  EXPECT_REFUSED("E_CONFIG", "more than 10000", expanded(R"({
      "a": {"range": {"from": 1, "to": 1000, "step": 1}},
      "b": {"range": {"from": 1, "to": 1000, "step": 1}}})"));
}

}  // namespace
}  // namespace kvlab
