// Two runs whose cells are made up: what pairs, what is said to be worse, what is refused.

#include "eval/experiment/compare.h"

#include <gmock/gmock.h>

#include "core/files.h"
#include "eval/experiment/report.h"
#include "eval/experiment/run_directory.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class Compare : public testing::Test {
 protected:
  Compare() {
    registry_.add(Method{.name = "dense", .summary = "as it is"});
    registry_.add(Method{.name = "other", .summary = "test"});
    experiment_ = with("other");
  }
  Experiment with(const Json& method) {
    return parse_experiment({{"schema", "kvlab-config/1"},
                             {"model", {{"builtin", "recall2"}}},
                             {"tasks", {{{"builtin", "mqar"}, {"samples", 16}}}},
                             {"methods", Json::array({method})}},
                            folder_.path(), registry_, catalogue());
  }

  /// A run of both methods: `right` of 16 samples are answered by `other`, from so many bytes.
  std::filesystem::path run(const std::string& name, int right, int64_t bytes = 1000,
                            const std::string& dtype = "float32") {
    const RunDirectory directory(folder_.path() / name);
    for (const Cell& cell : experiment_.cells) {
      FinishedCell finished{.cell = &cell,
                            .metrics = {"acc", "nll", "delta_nll"},
                            .facts = {.protocol = "decode", .dtype = dtype}};
      for (int i = 0; i < 16; ++i) {
        const bool is_right = cell.is_dense || i < right;
        Outcome sample{.id = "s" + std::to_string(i),
                       .nll = {is_right ? 0.1 + 0.01 * i : 3.0},
                       .labels = {1},
                       .predicted = {is_right ? 1 : 2},
                       .recall = {0}};
        sample.end = {.tokens = 100, .payload = bytes, .committed = bytes, .dense = 4000};
        finished.outcome.samples.push_back(sample);
      }
      directory.save_cell(cell.id, to_json(finished));
    }
    return folder_.path() / name;
  }

  std::vector<int> verdicts(const RunComparison& comparison, const std::string& method) {
    std::vector<int> all;
    for (const MetricComparison& line : comparison.lines)
      if (line.method == method) all.push_back(line.verdict);
    return all;
  }

  RunComparison compare(const std::filesystem::path& a, const std::filesystem::path& b,
                        const CompareOptions& options = {}) {
    return compare_runs(a, b, options, catalogue());
  }

  test::Scratch folder_;
  Registry registry_;
  Experiment experiment_;
};

TEST_F(Compare, ARunEqualsItself) {
  const auto a = run("a", 9), b = run("b", 9);
  const RunComparison same = compare(a, b);
  EXPECT_FALSE(same.is_worse());
  EXPECT_THAT(same.lines, SizeIs(2 * 3)) << "acc, nll and cr of two methods";
  for (const MetricComparison& line : same.lines) EXPECT_EQ(line.estimate.delta, 0) << line.metric;
  EXPECT_THAT(same.missing, IsEmpty());
  EXPECT_THAT(same.added, IsEmpty());
}

TEST_F(Compare, ALossIsALossWhenItIsNoAccident) {
  const RunComparison much = compare(run("a", 16), run("b", 4));
  EXPECT_THAT(verdicts(much, "dense"), ElementsAre(0, 0, 0));
  EXPECT_THAT(verdicts(much, "other"), ElementsAre(-1, -1, 0));
  EXPECT_TRUE(much.is_worse());

  const RunComparison little = compare(run("a", 16), run("c", 15));
  EXPECT_THAT(verdicts(little, "other"), ElementsAre(0, 0, 0)) << "one sample of 16";

  EXPECT_THAT(verdicts(compare(run("b", 4), run("a", 16)), "other"), ElementsAre(1, 1, 0));
}

TEST_F(Compare, PIsCorrectedForAllThatWasTested) {
  const RunComparison comparison = compare(run("a", 16), run("b", 10));
  std::vector<double> p, corrected;
  for (const MetricComparison& line : comparison.lines) {
    EXPECT_EQ(line.estimate.p.has_value(), line.metric != "cr");
    if (line.estimate.p) p.push_back(*line.estimate.p);
    if (line.p_holm) corrected.push_back(*line.p_holm);
  }
  EXPECT_EQ(corrected, holm(p));
  EXPECT_THAT(verdicts(comparison, "other"), ElementsAre(0, -1, 0))
      << "McNemar's 6 to 0 is 0.031, four times that no finding; nll moved beyond doubt";
}

TEST_F(Compare, WhatIsExactNeedsNoTest) {
  EXPECT_THAT(verdicts(compare(run("a", 9, 1000), run("b", 9, 1001)), "other"),
              ElementsAre(0, 0, -1));
}

TEST_F(Compare, TolerancesAreInTheMetricsUnit) {
  const auto a = run("a", 16), b = run("b", 4);
  EXPECT_THAT(verdicts(compare(a, b, {.tolerance = 0.76}), "other"), ElementsAre(0, -1, 0));
  EXPECT_THAT(verdicts(compare(a, b, {.tolerances = {{"nll", 3}}}), "other"),
              ElementsAre(-1, 0, 0));
}

TEST_F(Compare, TwoMethodsOfOneRun) {
  const auto a = run("a", 4);
  const RunComparison across =
      compare(a, a, {.method_a = "dense", .method_b = "other", .metrics = {"acc"}});
  EXPECT_THAT(verdicts(across, "dense → other"), ElementsAre(-1));
  EXPECT_THAT(comparison_markdown(across), HasSubstr("worse"));
  EXPECT_EQ(to_json(across).at("comparisons").at(0).at("verdict"), "worse");
}

TEST_F(Compare, AMethodThatWasPreparedAgainIsHeldAgainstWhatItWas) {
  const auto prepared = [&](const char* contents) {
    write_file(folder_ / "made", contents);
    experiment_ = with({{"name", "other"}, {"artifact", "made"}});
  };
  prepared("one");
  const auto a = run("a", 16);
  prepared("two");
  const auto b = run("b", 4);
  const RunComparison again = compare(a, b);
  EXPECT_THAT(verdicts(again, "other (another artifact)"), ElementsAre(-1, -1, 0));
  EXPECT_THAT(again.missing, IsEmpty());
  prepared("one");
  run("b", 16);  // beside the cell of the other artifact
  const RunComparison both = compare(a, b);
  EXPECT_THAT(verdicts(both, "other"), ElementsAre(0, 0, 0));
  EXPECT_THAT(both.added, ElementsAre("other on mqar"));
  EXPECT_THAT(both.missing, IsEmpty());
}

TEST_F(Compare, SamplesThatMetNaNAreCounted) {
  const auto a = run("a", 9), b = run("b", 9);
  const RunDirectory directory(b);
  Json file = *directory.load_cell(experiment_.cells[1].id);
  FinishedCell broken = finished_from(file, experiment_.cells[1]);
  broken.outcome.samples[3].is_nan = true;
  directory.save_cell(experiment_.cells[1].id, to_json(broken));
  EXPECT_EQ(compare(a, b).nan_samples, 1);
  EXPECT_EQ(compare(a, a).nan_samples, 0);
}

TEST_F(Compare, SaysWhatItCannotCompare) {
  const auto a = run("a", 9);
  EXPECT_REFUSED("E_FILE", "no finished cells", compare(a, folder_.path() / "none"));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `dense`", compare(a, a, {.method_a = "dence"}));
  EXPECT_REFUSED("E_INCOMPARABLE", "dtype", compare(a, run("b", 9, 1000, "bfloat16")));
  EXPECT_REFUSED("E_CONFIG", "delta_nll says nothing", compare(a, a, {.metrics = {"delta_nll"}}));
  EXPECT_NO_THROW(compare(a, folder_.path() / "b", {.allow_mixed = true}));
}

}  // namespace
}  // namespace kvlab
