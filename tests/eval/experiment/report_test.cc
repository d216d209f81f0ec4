// Results, samples and tables of cells whose outcomes are made up.

#include "eval/experiment/report.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "eval/experiment/best.h"
#include "eval/experiment/summary.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class Report : public testing::Test {
 protected:
  Report() {
    registry_.add(Method{.name = "dense", .summary = "as it is"});
    registry_.add(
        Method{.name = "bits",
               .summary = "test",
               .schema = R"({"bits": {"type": "integer", "default": 4, "doc": "test"}})"});
    const Json config{{"schema", "kvlab-config/1"},
                      {"seed", 7},
                      {"model", {{"builtin", "recall2"}}},
                      {"tasks", {{{"builtin", "mqar"}, {"samples", 2}}}},
                      {"methods", {{{"name", "bits"}, {"params", {{"bits", 2}}}}}}};
    experiment_ = parse_experiment(config, {}, registry_, catalogue());
    cells_ = {finished(0, {1, 1}, 4000), finished(1, {1, 9}, 1000)};
  }

  /// Two samples of one label each, predicted right where `predicted` is 1.
  FinishedCell finished(size_t place, std::vector<int32_t> predicted, int64_t bytes) {
    FinishedCell cell{.cell = &experiment_.cells[place],
                      .metrics = {"acc", "nll"},
                      .facts = {.protocol = "decode", .read_policy = "raw_chunk"}};
    cell.outcome.dtype = "float32";
    for (const int32_t token : predicted) {
      Outcome sample{.id = "s", .nll = {0.5}, .labels = {1}, .predicted = {token}, .recall = {0}};
      sample.end = {
          .tokens = 100, .payload = bytes, .committed = bytes, .dense = 4000, .dense_run = 8000};
      sample.timing = {.prefill_s = 0.5, .prefill_tokens = 100, .decode_s = 1, .decode_tokens = 10};
      cell.outcome.samples.push_back(sample);
    }
    return cell;
  }

  Json line(size_t place, const std::string& metric) {
    for (const Json& one : result_lines(cells_[place], cells_[0], catalogue())) {
      if (one.at("metric") == metric) return one;
    }
    return {};
  }

  Registry registry_;
  Experiment experiment_;
  std::vector<FinishedCell> cells_;
};

TEST_F(Report, ALineSaysWhatWasMeasuredOnWhat) {
  const Json acc = line(1, "acc");
  EXPECT_EQ(acc.at("schema"), "kvlab/1");
  EXPECT_EQ(acc.at("run"), experiment_.cells[1].id);
  EXPECT_EQ(acc.at("method"), "bits");
  EXPECT_EQ(acc.at("params"), (Json{{"bits", 2}}));
  EXPECT_EQ(acc.at("task"), "mqar");
  EXPECT_EQ(acc.at("value"), 0.5);
  EXPECT_EQ(acc.at("unit"), "fraction");
  EXPECT_EQ(acc.at("better"), "higher");
  EXPECT_EQ(acc.at("n"), 2);
  EXPECT_EQ(acc.at("dense"), 1.0);
  EXPECT_EQ(acc.at("delta"), -0.5);
  EXPECT_EQ(acc.at("cr"), 4.0);
  EXPECT_EQ(acc.at("bits_per_element"), 4.0);
  EXPECT_EQ(acc.at("seed"), 7);
  EXPECT_EQ(acc.at("context"), 100);
  EXPECT_THAT(acc.at("ci"), SizeIs(2));
  EXPECT_THAT(acc.at("delta_ci"), SizeIs(2));
}

TEST_F(Report, DenseHasNoDifferenceToItself) {
  EXPECT_FALSE(line(0, "acc").contains("delta"));
  EXPECT_EQ(line(0, "acc").at("value"), 1.0);
}

TEST_F(Report, OnlyTimingLinesVary) {
  EXPECT_EQ(line(1, "decode_tok_s").at("timing"), true);
  const auto before = result_lines(cells_[1], cells_[0], catalogue());
  for (Outcome& sample : cells_[1].outcome.samples) sample.timing.decode_s *= 3;
  const auto after = result_lines(cells_[1], cells_[0], catalogue());
  ASSERT_EQ(before.size(), after.size());
  int changed = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] == after[i]) continue;
    ++changed;
    EXPECT_TRUE(before[i].contains("timing")) << before[i];
  }
  EXPECT_GT(changed, 0);
}

TEST_F(Report, SamplesNameWhatWasAnsweredAndWhatDenseAnswered) {
  const auto samples = sample_lines(cells_[1], cells_[0], catalogue());
  ASSERT_THAT(samples, SizeIs(2));
  EXPECT_EQ(samples[1].at("prediction"), Json({9}));
  EXPECT_EQ(samples[1].at("dense_prediction"), Json({1}));
  EXPECT_EQ(samples[1].at("answers"), Json({1}));
  EXPECT_EQ(samples[1].at("score"), 0.0);
  EXPECT_EQ(samples[1].at("dense_score"), 1.0);
  EXPECT_EQ(samples[0].at("first_difference"), -1);
  EXPECT_EQ(samples[1].at("first_difference"), 0);
}

TEST_F(Report, ANaNSampleIsCountedAndInNoMean) {
  cells_[1].outcome.samples[1].is_nan = true;
  cells_[1].outcome.samples[1].nan_where = "position 3";
  EXPECT_EQ(line(1, "acc").at("value"), 1.0);
  EXPECT_EQ(line(1, "acc").at("nan_samples"), 1);
  EXPECT_EQ(sample_lines(cells_[1], cells_[0], catalogue())[1].at("nan"), "position 3");
}

TEST_F(Report, ACellIsReadBackAsItWas) {
  const Json written = to_json(cells_[1]);
  const FinishedCell read = finished_from(parse_json(written.dump(), "test"), experiment_.cells[1]);
  EXPECT_EQ(to_json(read), written);
  EXPECT_REFUSED("E_FORMAT", "is of", finished_from(written, experiment_.cells[0]));
  Json broken = written;
  broken["observed"].erase("samples");
  EXPECT_REFUSED("E_FORMAT", "not what kvlab writes", finished_from(broken, experiment_.cells[1]));
}

TEST_F(Report, TablesShowDenseFirstAndSpeedBesideBytes) {
  const std::string text = summary_markdown("test", {&cells_[0], &cells_[1]}, catalogue(), false);
  EXPECT_THAT(text, AllOf(HasSubstr("## mqar"), HasSubstr("| dense"), HasSubstr("bits(bits=2)"),
                          HasSubstr("vs_dense"), HasSubstr("1000 B")));
  EXPECT_LT(text.find("| dense"), text.find("| bits(bits=2)"));
}

TEST_F(Report, CsvHasOneRowPerLineAndFullPrecision) {
  std::vector<Json> lines = result_lines(cells_[1], cells_[0], catalogue());
  lines[0]["title"] = "a, \"b\"";
  lines[0]["value"] = 0.1;
  lines[0]["ci"] = {0.0, 1.0 / 3};
  const std::string text = csv(lines);
  EXPECT_THAT(text, testing::StartsWith("run,model,method,title,params,"));
  EXPECT_EQ(std::ranges::count(text, '\n'), std::ssize(lines) + 1);
  EXPECT_THAT(text, AllOf(HasSubstr(",ci_low,ci_high,se,"), HasSubstr("\"a, \"\"b\"\"\","),
                          HasSubstr(",0.10000000000000001,"), HasSubstr(",0.33333333333333331,"),
                          HasSubstr("\"{\"\"bits\"\":2}\"")));
  const auto columns = [](std::string_view line) {
    bool quoted = false;
    return std::ranges::count_if(line, [&](char c) {
      if (c == '"') quoted = !quoted;
      return c == ',' && !quoted;
    });
  };
  std::istringstream rows(text);
  std::set<int64_t> widths;
  for (std::string row; std::getline(rows, row);) widths.insert(columns(row));
  EXPECT_THAT(widths, SizeIs(1));
}

TEST_F(Report, PIsCorrectedWithinAQuestionAndAMetric) {
  FinishedCells cells;
  for (const FinishedCell& cell : cells_) cells.push_back(&cell);
  for (const Json& one : all_result_lines(experiment_, cells, catalogue())) {
    EXPECT_EQ(one.contains("p"), one.contains("p_holm"));
    if (one.contains("p")) {
      EXPECT_EQ(one.at("p"), one.at("p_holm")) << "a family of one";
    }
  }
}

TEST_F(Report, SeveralSettingsOfAMethodMakeACurve) {
  const Json config{
      {"schema", "kvlab-config/1"},
      {"model", {{"builtin", "recall2"}}},
      {"tasks", {{{"builtin", "mqar"}, {"samples", 2}}}},
      {"methods", {{{"name", "bits"}, {"params", {{"bits", {{"sweep", {8, 4, 2}}}}}}}}}};
  experiment_ = parse_experiment(config, {}, registry_, catalogue());
  cells_ = {finished(0, {1, 1}, 4000), finished(1, {1, 1}, 2000), finished(2, {1, 9}, 2000),
            finished(3, {1, 9}, 1000)};
  FinishedCells cells;
  for (const FinishedCell& cell : cells_) cells.push_back(&cell);
  const std::string text = summary_markdown("t", cells, catalogue(), false);
  // Dense and 4 bits are beaten by 8 bits: the front goes from (2, 1) to (4, 0.5).
  EXPECT_THAT(text, HasSubstr("| bits   |        3 |            2 |      2.028 |       0.75 |"));
}

TEST_F(Report, AHeadlineIsBoldIfItIsTheBestBeyondDoubt) {
  const auto text = [&](std::vector<int32_t> dense, std::vector<int32_t> bits) {
    cells_ = {finished(0, std::move(dense), 4000), finished(1, std::move(bits), 1000)};
    return summary_markdown("t", {&cells_[0], &cells_[1]}, catalogue(), false);
  };
  const auto bold = [](const std::string& shown) { return std::ranges::count(shown, '*') / 4; };
  EXPECT_THAT(text({1, 1, 1, 1}, {9, 9, 9, 9}), HasSubstr("| dense        | **1 [0.5101, 1]** |"));
  EXPECT_THAT(text({9, 9, 9, 9}, {1, 1, 1, 1}), HasSubstr("| bits(bits=2) | **1 [0.5101, 1]** |"));
  EXPECT_EQ(bold(text({1, 1, 1, 1}, {9, 9, 9, 9})), 1);
  EXPECT_EQ(bold(text({1, 1, 1, 1}, {1, 1, 1, 1})), 0) << "a tie";
  EXPECT_EQ(bold(text({1, 1, 1, 1}, {1, 1, 1, 9})), 0) << "the interval reaches 0";
  EXPECT_EQ(bold(text({1}, {9})), 0) << "one sample has no interval";
}

TEST_F(Report, ABoldHeadlineIsMarkedInItsLineToo) {
  const auto best = [&](std::vector<int32_t> dense, std::vector<int32_t> bits) {
    cells_ = {finished(0, std::move(dense), 4000), finished(1, std::move(bits), 1000)};
    std::vector<std::string> titles;
    for (const Json& one : all_result_lines(experiment_, {&cells_[0], &cells_[1]}, catalogue()))
      if (one.value("best", false))
        titles.push_back(one.at("title").get<std::string>() + " " +
                         one.at("metric").get<std::string>());
    return titles;
  };
  EXPECT_THAT(best({9, 9, 9, 9}, {1, 1, 1, 1}), testing::ElementsAre("bits(bits=2) acc"));
  EXPECT_THAT(best({1, 9, 1, 1}, {1, 1, 1, 9}), testing::IsEmpty());
}

TEST_F(Report, OnlyTheNextBestHasToBeBeaten) {
  const Json config{{"schema", "kvlab-config/1"},
                    {"model", {{"builtin", "recall2"}}},
                    {"tasks", {{{"builtin", "mqar"}, {"samples", 2}}}},
                    {"methods", {{{"name", "bits"}, {"params", {{"bits", {{"sweep", {8, 4}}}}}}}}}};
  experiment_ = parse_experiment(config, {}, registry_, catalogue());
  const auto best = [&](std::vector<std::vector<int32_t>> predicted) {
    cells_.clear();
    for (size_t i = 0; i < 3; ++i) cells_.push_back(finished(i, predicted[i], 4000));
    std::vector<double> values;
    FinishedCells cells;
    for (size_t i = 0; i < 3; ++i) {
      cells.push_back(&cells_[i]);
      values.push_back(static_cast<double>(std::ranges::count(predicted[i], 1)) / 4);
    }
    return distinctly_best(cells, catalogue().metric("acc"), values);
  };
  EXPECT_EQ(best({{1, 1, 9, 9}, {9, 9, 9, 9}, {1, 1, 1, 1}}), std::nullopt);
  EXPECT_EQ(best({{9, 9, 9, 9}, {9, 9, 9, 9}, {1, 1, 1, 1}}), 2);
  const FinishedCells cells{&cells_[0], &cells_[1], &cells_[2]};
  const std::vector<double> nan(3, std::nan(""));
  EXPECT_EQ(distinctly_best(cells, catalogue().metric("acc"), nan), std::nullopt);
  EXPECT_EQ(distinctly_best(cells, catalogue().metric("cr"), std::vector<double>{1, 2, 3}),
            std::nullopt)
      << "bytes have no intervals";
}

TEST_F(Report, UnequalCellsDoNotShareATable) {
  cells_[1].facts.data_sha = "another";
  EXPECT_REFUSED("E_INCOMPARABLE", "data_sha \"another\" and \"\"",
                 summary_markdown("test", {&cells_[0], &cells_[1]}, catalogue(), false));
  EXPECT_THAT(summary_markdown("test", {&cells_[0], &cells_[1]}, catalogue(), true),
              HasSubstr("Mixed: bits(bits=2) and dense differ in data_sha"));
}

TEST_F(Report, NothingIsPrintedBeforeDenseIsThere) {
  const FinishedCells only{&cells_[1]};
  EXPECT_THAT(summary_markdown("test", only, catalogue(), false), Not(HasSubstr("| bits")));
  EXPECT_TRUE(all_result_lines(experiment_, only, catalogue()).empty());
}

TEST(Comparable, EveryFieldCounts) {
  const Comparable same{.protocol = "p", .prefill_chunk = 1};
  const auto refuse = [&](auto change) {
    Comparable other = same;
    change(other);
    return test::error_of([&] { check_comparable(same, other, "a", "b"); });
  };
  EXPECT_EQ(refuse([](Comparable&) {}), "no error");
  EXPECT_THAT(refuse([](Comparable& c) { c.protocol = "q"; }), HasSubstr("protocol"));
  EXPECT_THAT(refuse([](Comparable& c) { c.read_policy = "q"; }), HasSubstr("read_policy"));
  EXPECT_THAT(refuse([](Comparable& c) { c.model_sha = "q"; }), HasSubstr("model_sha"));
  EXPECT_THAT(refuse([](Comparable& c) { c.tokenizer_sha = "q"; }), HasSubstr("tokenizer_sha"));
  EXPECT_THAT(refuse([](Comparable& c) { c.data_sha = "q"; }), HasSubstr("data_sha"));
  EXPECT_THAT(refuse([](Comparable& c) { c.dtype = "q"; }), HasSubstr("dtype"));
  EXPECT_THAT(refuse([](Comparable& c) { c.prefill_chunk = 2; }),
              HasSubstr("prefill_chunk 1 and 2"));
  EXPECT_THAT(refuse([](Comparable& c) { c.score_chunk = 2; }), HasSubstr("score_chunk"));
}

TEST(ReadableBytes, UseTheUnitThatFits) {
  EXPECT_EQ(readable_bytes(0), "0 B");
  EXPECT_EQ(readable_bytes(1000), "1000 B");
  EXPECT_EQ(readable_bytes(1536), "1.5 KiB");
  EXPECT_EQ(readable_bytes(429916160), "410 MiB");
}

}  // namespace
}  // namespace kvlab
