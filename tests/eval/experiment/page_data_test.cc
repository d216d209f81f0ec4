// What the page is given, from lines written by hand.

#include "eval/experiment/page_data.h"

#include <gmock/gmock.h>

#include "eval/experiment/references.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class PageData : public testing::Test {
 protected:
  /// A line of the cell `run`: mqar, answered by `method` with `params`.
  Json& add(const std::string& run, const std::string& method, const Json& params,
            const std::string& metric, double value, const std::string& unit = "fraction",
            const std::string& better = "higher") {
    source_.results.push_back({{"run", run},
                               {"model", {{"builtin", "recall2"}}},
                               {"method", method},
                               {"title", params.empty() ? method : method + params.dump()},
                               {"params", params},
                               {"task", "mqar"},
                               {"task_params", Json::object()},
                               {"protocol", "decode"},
                               {"read_policy", "raw_chunk"},
                               {"prefill_chunk", 512},
                               {"query_aware", false},
                               {"dtype", "bfloat16"},
                               {"seed", 7},
                               {"n", 32},
                               {"metric", metric},
                               {"value", value},
                               {"unit", unit},
                               {"better", better}});
    return source_.results.back();
  }
  void add_pair(const std::string& metric, double dense, double quant, const std::string& unit,
                const std::string& better = "lower") {
    add("d", "dense", Json::object(), metric, dense, unit, better);
    add("q", "quant", {{"bits", 4}}, metric, quant, unit, better);
  }
  void add_scores() {
    add_pair("acc", 1, 0.5, "fraction", "higher");
    Json& line = source_.results.back();
    line.update({{"ci", {0.25, 0.75}},
                 {"dense", 1},
                 {"delta", -0.5},
                 {"delta_ci", {-0.75, -0.25}},
                 {"p", 0.03},
                 {"p_holm", 0.06}});
    add_pair("cr", 1, 3.2, "ratio", "higher");
    add_pair("cache_bytes", 8192, 2560, "byte");
  }

  Json page() { return page_data(source_, catalogue()); }
  Json question() { return page().at("questions").at(0); }
  std::vector<Json> plots(const std::string& kind) {
    std::vector<Json> all;
    const Json asked = question();
    for (const Json& plot : asked.at("plots"))
      if (plot.at("kind") == kind) all.push_back(plot);
    return all;
  }
  /// The texts of a column of the table.
  std::vector<std::string> column(const std::string& label) {
    const Json table = question().at("table");
    std::vector<std::string> texts;
    for (size_t c = 0; c < table.at("columns").size(); ++c) {
      if (table.at("columns").at(c).at("label") != label) continue;
      for (const Json& row : table.at("rows")) texts.push_back(row.at("cells").at(c).at("t"));
    }
    return texts;
  }

  PageSource source_;
};

TEST_F(PageData, NumbersAreWrittenAsInTheSummary) {
  add_scores();
  EXPECT_THAT(column("method"), ElementsAre("dense", "quant{\"bits\":4}"));
  EXPECT_THAT(column("acc"), ElementsAre("1", "0.5 ± 0.25"));
  EXPECT_THAT(column("Δ to dense"), ElementsAre("–", "-0.5 [-0.75, -0.25]"));
  EXPECT_THAT(column("p"), ElementsAre("–", "0.03"));
  EXPECT_THAT(column("p_holm"), ElementsAre("–", "0.06"));
  EXPECT_THAT(column("cr"), ElementsAre("1", "3.2"));
  EXPECT_THAT(column("cache"), ElementsAre("8 KiB", "2.5 KiB"));
  EXPECT_THAT(column("vs_dense"), ElementsAre("1x", "–"));
  EXPECT_THAT(question().at("facts").get<std::string>(),
              AllOf(HasSubstr("recall2, bfloat16"), HasSubstr("chunks of 512"),
                    HasSubstr("seed 7 · 32 samples")));
}

TEST_F(PageData, CellsSortByTheirNumbersAndMissingOnesHaveNone) {
  add_scores();
  const Json rows = question().at("table").at("rows");
  EXPECT_EQ(rows.at(1).at("cells").at(1).at("v"), 0.5);
  EXPECT_EQ(rows.at(0).at("cells").at(2).at("v"), nullptr);
  EXPECT_EQ(rows.at(1).at("cells").at(2).at("v"), -0.5);
}

TEST_F(PageData, BoldIsWhatItsLineSays) {
  add_scores();
  EXPECT_FALSE(question().at("table").at("rows").at(0).at("cells").at(1).contains("best"));
  source_.results[0]["best"] = true;
  EXPECT_EQ(question().at("table").at("rows").at(0).at("cells").at(1).at("best"), true);
}

TEST_F(PageData, ADifferenceWithinTheNoiseIsNone) {
  add_scores();
  add_pair("delta_nll", 0, 0.001, "nat/token", "neither");
  add_pair("noise_floor", 0.002, 0.002, "nat/token", "neither");
  EXPECT_THAT(column("delta_nll"), ElementsAre("–", "≤ noise"));
}

TEST_F(PageData, AQuestionIsModelTaskMatrixAndSeed) {
  add_scores();
  const std::vector<Json> one = source_.results;
  EXPECT_EQ(page().at("overview"), nullptr);
  for (const auto& [field, value] : {std::pair<const char*, Json>{"seed", 8},
                                     {"prefill_chunk", 0},
                                     {"read_policy", "stored"},
                                     {"query_aware", true},
                                     {"task_params", {{"pairs", 4}}},
                                     {"model", {{"path", "m"}}}}) {
    source_.results = one;
    for (Json line : one) {
      line[field] = value;
      line["run"] = line.at("run").get<std::string>() + "2";
      source_.results.push_back(std::move(line));
    }
    EXPECT_THAT(page().at("questions"), SizeIs(2)) << field;
    EXPECT_THAT(page().at("overview").at("columns"), SizeIs(3)) << field;
  }
}

TEST_F(PageData, WithoutDenseThereIsNoQuestion) {
  add("q", "quant", {{"bits", 4}}, "acc", 0.5);
  EXPECT_THAT(page().at("questions"), IsEmpty());
}

TEST_F(PageData, SettingsAreNamedByWhatDiffers) {
  add("d", "dense", Json::object(), "acc", 1);
  add("a", "window", {{"recent", 16}, {"sink", 1}}, "acc", 0);
  add("b", "window", {{"recent", 64}, {"sink", 1}}, "acc", 1);
  add("c", "quant", {{"bits", 4}}, "acc", 1);
  add("e", "window+quant", {{{"recent", 16}}, {{"bits", 4}, {"key", {{"axis", "token"}}}}}, "acc",
      1);
  add("f", "window+quant", {{{"recent", 16}}, {{"bits", 4}, {"key", {{"axis", "channel"}}}}}, "acc",
      1);
  std::vector<std::string> settings;
  const Json rows = question().at("rows");
  for (const Json& row : rows) settings.push_back(row.at("setting"));
  EXPECT_THAT(settings,
              ElementsAre("", "recent 16", "recent 64", "", "key.axis token", "key.axis channel"));
  EXPECT_THAT(page().at("families"), ElementsAre("dense", "window", "quant", "window+quant"));
}

TEST_F(PageData, TheFrontIsThatOfTheMetricsDirection) {
  add_scores();
  const std::vector<Json> score = plots("tradeoff");
  ASSERT_THAT(score, SizeIs(1));
  EXPECT_EQ(score[0].at("front"), (Json{{1.0, 1.0}, {3.2, 0.5}}));
  EXPECT_EQ(score[0].at("points").at(1).at("low"), 0.25);
  EXPECT_EQ(score[0].at("dense"), 1.0);
  add_pair("tpot_ms", 3, 2, "ms");
  add_pair("kl", 0, 0.125, "nat", "lower");
  const std::vector<Json> all = plots("tradeoff");
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_EQ(all[1].at("metric"), "kl");
  EXPECT_EQ(all[1].at("front"), (Json{{1.0, 0.0}, {3.2, 0.125}}));
  EXPECT_EQ(all[2].at("front"), (Json{{3.2, 2.0}})) << "dense is slower and larger";
  EXPECT_THAT(column("kl"), ElementsAre("0", "0.125"));
}

TEST_F(PageData, SeveralSettingsAreATradeoff) {
  add("d", "dense", Json::object(), "acc", 1);
  add("d", "dense", Json::object(), "cr", 1);
  const std::vector<std::pair<double, double>> points{{2, 1}, {2, 0.5}, {4, 0.5}};
  for (size_t i = 0; i < points.size(); ++i) {
    add("q" + std::to_string(i), "quant", {{"bits", i}}, "acc", points[i].second);
    add("q" + std::to_string(i), "quant", {{"bits", i}}, "cr", points[i].first);
  }
  std::vector<std::string> texts;
  const Json tradeoffs = question().at("tradeoffs");
  for (const Json& cell : tradeoffs.at("rows").at(0).at("cells")) texts.push_back(cell.at("t"));
  EXPECT_THAT(texts, ElementsAre("quant", "3", "2", "2.028", "0.75"));
}

TEST_F(PageData, NeedlesAreMeansOverLengthAndDepth) {
  add_scores();
  const auto sample = [&](const char* run, int length, int depth, double score) {
    source_.samples.push_back({{"run", run},
                               {"n_tokens", 7},
                               {"score", score},
                               {"meta", {{"length", length}, {"depth", depth}}}});
  };
  EXPECT_THAT(plots("needle"), IsEmpty());
  sample("q", 1024, 0, 1);
  sample("q", 1024, 0, 0);
  sample("q", 2048, 50, 0.25);
  sample("d", 1024, 0, 1);
  const Json needle = plots("needle").at(0);
  EXPECT_EQ(needle.at("lengths"), (Json{1024.0, 2048.0}));
  EXPECT_EQ(needle.at("depths"), (Json{0.0, 50.0}));
  EXPECT_EQ(needle.at("panels").at(1), (Json{{"row", 1},
                                             {"scores", {{0.5, nullptr}, {nullptr, 0.25}}},
                                             {"counts", {{2, 0}, {0, 1}}}}));
}

TEST_F(PageData, DistancesComeInTheirOrder) {
  add_scores();
  for (const char* bucket : {"d2049", "d1_8", "d129_512"})
    add("q", "quant", {{"bits", 4}}, std::string("delta_nll_") + bucket, 0.5)["ci"] = {0.25, 0.75};
  const Json distance = plots("distance").at(0);
  EXPECT_EQ(distance.at("buckets"), (Json{"1–8", "129–512", "> 2048"}));
  ASSERT_THAT(distance.at("bars"), SizeIs(1));
  EXPECT_EQ(distance.at("bars").at(0).at("low"), (Json{0.25, 0.25, 0.25}));
}

TEST_F(PageData, LayersAreNumbersOrHeads) {
  add_scores();
  add("q", "quant", {{"bits", 4}}, "attn_snr_db", 20, "dB")["by_layer"] = {18, 22};
  add("q", "quant", {{"bits", 4}}, "k_rel_err", 0.1)["by_layer"] = {{0.25, 0.75}, {0.5, nullptr}};
  const std::vector<Json> layers = plots("layers");
  ASSERT_THAT(layers, SizeIs(2));
  EXPECT_EQ(layers[0].at("lines").at(0).at("values"), (Json{18, 22}));
  EXPECT_THAT(layers[0].at("panels"), IsEmpty());
  EXPECT_EQ(layers[1].at("lines").at(0).at("values"), (Json{0.5, 0.5})) << "the mean over heads";
  EXPECT_EQ(layers[1].at("panels").at(0).at("heads"), (Json{{0.25, 0.75}, {0.5, nullptr}}));
}

TEST_F(PageData, ARooflineIsBytesTheirRateAndWhatWasMeasured) {
  add_scores();
  add_pair("bytes_moved", 80000, 24000, "byte");
  EXPECT_THAT(plots("roofline"), IsEmpty());
  add_pair("attn_gb_s", 8, 6, "GB/s", "higher");
  add_pair("bw_frac", 0.8, 0.6, "fraction", "higher");
  add_pair("speedup_roofline", 1, 3.2, "ratio", "higher");
  add_pair("attn_speedup", 1, 2.5, "ratio", "higher");
  const Json roofline = plots("roofline").at(0);
  EXPECT_EQ(roofline.at("points").at(1).at("x"), 24000.0);
  EXPECT_EQ(roofline.at("points").at(1).at("y"), 6.0);
  EXPECT_EQ(roofline.at("ceiling"), 10.0);
  add_pair("read_gb_s", 12, 11, "GB/s", "higher");
  EXPECT_EQ(plots("roofline").at(0).at("ceiling"), 12.0) << "dense's, where it is said itself";
  EXPECT_EQ(plots("speedup").at(0).at("points").at(1), (Json{{"row", 1}, {"x", 3.2}, {"y", 2.5}}));
}

TEST_F(PageData, WarningsSayWhatTheyAreAboutAndMissingCellsAreCounted) {
  add_scores();
  source_.record = {{"name", "n"},
                    {"cells", {"d", "q", "r"}},
                    {"warnings", {"q: reference kernel", "of no cell"}}};
  const Json data = page();
  EXPECT_EQ(data.at("missing"), 1);
  EXPECT_EQ(data.at("warnings").at(0),
            (Json{{"where", "quant{\"bits\":4}, mqar"}, {"text", "reference kernel"}}));
  EXPECT_EQ(data.at("warnings").at(1), (Json{{"where", ""}, {"text", "of no cell"}}));
}

TEST_F(PageData, TheRecordIsPassedOnAndWhatOthersReportedStandsBeside) {
  source_.record = {{"name", "n"}, {"build", {{"version", "0.1.0"}}}};
  EXPECT_THAT(page().at("references"), IsEmpty());
  add_scores();
  EXPECT_EQ(page().at("references"), references_beside(source_.results, references()));
  EXPECT_EQ(page().at("record"), source_.record);
  EXPECT_EQ(page().at("subtitle"), (Json{"kvlab 0.1.0"}));
}

TEST_F(PageData, ALineThatIsNoResultIsRefused) {
  source_.results.push_back({{"metric", "acc"}});
  EXPECT_REFUSED("E_FORMAT", "not what kvlab writes", page());
}

}  // namespace
}  // namespace kvlab
