// What is listed, and which of it stands under a table.

#include "eval/experiment/references.h"

#include <gmock/gmock.h>

#include <set>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Json row(const std::string& method, double value) {
  return {{"method", method}, {"value", value}, {"setting", "s"}};
}

Json table(const std::string& family, const std::vector<Json>& rows) {
  return {{"family", family}, {"benchmark", "b"}, {"metric", "score"}, {"unit", "%"},
          {"model", "m"},     {"source", "t"},    {"rows", rows}};
}

Json document(const std::vector<Json>& tables) {
  return {
      {"schema", "kvlab-references/1"},
      {"families", {{"texts", {"ppl"}}, {"needles", {"niah*", "vt"}}, {"nothing", Json::array()}}},
      {"tables", tables}};
}

std::vector<double> values(const std::vector<Json>& tables, const std::string& task,
                           const std::set<std::string>& methods) {
  const References all(document(tables));
  std::vector<double> found;
  for (const Reference* one : all.concerning(task, methods)) found.push_back(one->value);
  return found;
}

TEST(References, OfTheTasksFamilyAndItsMethods) {
  const std::vector<Json> tables{table("texts", {row("dense", 1), row("a", 2), row("b", 3)}),
                                 table("needles", {row("dense", 4), row("a", 5)}),
                                 table("nothing", {row("a", 6)})};
  EXPECT_THAT(values(tables, "ppl", {"a"}), ElementsAre(1, 2));
  EXPECT_THAT(values(tables, "ppl", {"b", "other"}), ElementsAre(1, 3));
  EXPECT_THAT(values(tables, "niah_multikey", {"a"}), ElementsAre(4, 5));
  EXPECT_THAT(values(tables, "niah", {}), ElementsAre(4));
  EXPECT_THAT(values(tables, "vt", {"a"}), ElementsAre(4, 5));
  EXPECT_THAT(values(tables, "vt_other", {"a"}), IsEmpty());
  EXPECT_THAT(values(tables, "mqar", {"a"}), IsEmpty());
}

TEST(References, TablesWithTheMethodComeFirstAndStayWhole) {
  const std::vector<Json> tables{
      table("texts", {row("dense", 1), row("dense", 2)}),
      table("texts", {row("dense", 3), row("a", 4), row("dense", 5), row("a", 6)}),
      table("texts", {row("dense", 7), row("b", 8)})};
  EXPECT_THAT(values(tables, "ppl", {"a"}), ElementsAre(3, 4, 5, 6, 1, 2, 7));
  EXPECT_THAT(values(tables, "ppl", {}), ElementsAre(1, 2, 3, 5, 7));
}

TEST(References, ARowSaysWhatItsTableDoesNot) {
  Json own = row("a", 2);
  own.update({{"model", "mine"}, {"bits", 3}, {"cr", 7.59}});
  const References all(document({table("texts", {row("dense", 1), own})}));
  EXPECT_EQ(all.rows()[0].model, "m");
  EXPECT_EQ(to_json(all.rows()[1]), (Json{{"family", "texts"},
                                          {"method", "a"},
                                          {"model", "mine"},
                                          {"benchmark", "b"},
                                          {"metric", "score"},
                                          {"unit", "%"},
                                          {"setting", "s"},
                                          {"source", "t"},
                                          {"value", 2.0},
                                          {"bits", 3.0},
                                          {"cr", 7.59}}));
}

TEST(References, WhatIsIncompleteIsRefused) {
  for (const char* key :
       {"family", "benchmark", "metric", "unit", "model", "source", "method", "setting"}) {
    Json lacking = table("texts", {row("a", 1)});
    lacking.erase(key);
    lacking["rows"][0].erase(key);
    EXPECT_REFUSED("E_FORMAT", "lacks the text `" + std::string(key) + "`",
                   References(document({lacking})));
    lacking[key] = "";
    EXPECT_REFUSED("E_FORMAT", "lacks the text", References(document({lacking})));
  }
  const auto with = [](const char* key, const Json& value) {
    Json changed = row("a", 1);
    changed[key] = value;
    return document({table("texts", {changed})});
  };
  EXPECT_REFUSED("E_FORMAT", "lacks the number `value`", References(with("value", "1")));
  EXPECT_REFUSED("E_FORMAT", "lacks the number `value`", References(with("value", nullptr)));
  EXPECT_REFUSED("E_FORMAT", "cr is no number above 0", References(with("cr", 0)));
  EXPECT_REFUSED("E_FORMAT", "unknown key `modell`", References(with("modell", "m")));
  EXPECT_REFUSED("E_FORMAT", "family is not listed", References(with("family", "others")));
  EXPECT_REFUSED("E_FORMAT", "no schema", References(Json::object()));
  EXPECT_REFUSED("E_FORMAT", "rows", References(document({Json::object()})));
}

TEST(References, OfThisBuildAreWholeAndHeldApart) {
  std::set<std::string> seen;
  for (const Reference& one : references().rows()) {
    Json key = to_json(one);
    key.erase("value");
    EXPECT_TRUE(seen.insert(key.dump()).second) << "twice: " << key;
    EXPECT_TRUE(one.source.find("arXiv") != one.source.npos ||
                one.source.find('/') != one.source.npos ||
                one.source.find("README") != one.source.npos ||
                one.source.find("documentation") != one.source.npos)
        << one.source << " cannot be looked up";
  }
  EXPECT_GT(seen.size(), 300u);
}

TEST(References, OfThisBuildAreThePublishedNumbers) {
  const auto first = [](const std::string& task, const std::string& method) {
    return *references().concerning(task, {method}).at(0);
  };
  EXPECT_EQ(first("ppl", "dense").value, 19.44);
  EXPECT_EQ(first("niah", "dense").value, 95.5);
  EXPECT_EQ(first("ppl", "palu").value, 5.47);
  EXPECT_EQ(references().concerning("ppl", {"palu"}).at(1)->value, 5.62);
  EXPECT_EQ(first("mqar", "goldfinch").value, 100);
  EXPECT_THAT(references().concerning("mqar", {"quant", "window"}), IsEmpty());
}

TEST(References, ATableSaysSizesAndUnits) {
  Json own = row("a", 2.3905);
  own.update({{"bits", 3}, {"cr", 7.59}});
  const References all(document({table("texts", {own})}));
  const std::string text = references_markdown({&all.rows()[0]});
  EXPECT_THAT(text, HasSubstr("2.3905 %"));
  EXPECT_THAT(text, HasSubstr("m, s, 3.0 bits, cr 7.59"));
}

TEST(References, BesideARunStandEachOnce) {
  const References all(document({table("texts", {row("dense", 1), row("a", 2), row("b", 3)}),
                                 table("needles", {row("dense", 4), row("a", 5)})}));
  const auto line = [](const char* task, const char* method) {
    return Json{{"task", task}, {"method", method}};
  };
  const Json beside = references_beside(
      {line("vt", "dense"), line("niah", "dense"), line("niah", "c+a"), line("mqar", "b")}, all);
  ASSERT_EQ(beside.size(), 2u);
  EXPECT_EQ(beside[0].at("value"), 4);
  EXPECT_EQ(beside[1].at("value"), 5);
  EXPECT_TRUE(references_beside({line("mqar", "a")}, all).empty());
}

TEST(MethodsIn, ALabelNamesItsParts) {
  EXPECT_THAT(methods_in("window"), ElementsAre("window"));
  EXPECT_THAT(methods_in("window+quant+a_b"), ElementsAre("a_b", "quant", "window"));
}

}  // namespace
}  // namespace kvlab
