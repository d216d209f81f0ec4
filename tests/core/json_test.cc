#include "core/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/files.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::StartsWith;

std::string parse_error(std::string_view text) {
  return error_of([&] { parse_json(text, "cfg"); });
}

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(ParseJson, KeepsEveryKindOfValue) {
  const Json value = parse_json(R"({"b": [1, -2, 2.5, true, null, "x\u00e9"], "a": {}})", "cfg");
  EXPECT_EQ(value["b"].size(), 6U);
  EXPECT_TRUE(value["b"][0].is_number_integer());
  EXPECT_EQ(value["b"][1], -2);
  EXPECT_EQ(value["b"][2], 2.5);
  EXPECT_EQ(value["b"][5], "x\xC3\xA9");
  EXPECT_TRUE(value["a"].is_object());
}

TEST(ParseJson, ArraysOfContainersSurviveTheirOwnGrowth) {
  std::string text = "[";
  for (int i = 0; i < 100; ++i)
    text += (i == 0 ? "" : ",") + ("[" + std::to_string(i) + ",{\"k\":[]}]");
  const Json value = parse_json(text + "]", "cfg");
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(value[i], Json::parse("[" + std::to_string(i) + ",{\"k\":[]}]"));
}

TEST(ParseJson, NamesTextLineAndColumn) {
  EXPECT_THAT(parse_error("{\n  \"a\": nul\n}"), StartsWith("E_FORMAT: cfg: line 2, column 11: "));
  EXPECT_THAT(parse_error(""), StartsWith("E_FORMAT: cfg: line 1, column 1: "));
  EXPECT_THAT(parse_error("[1,]"), StartsWith("E_FORMAT: cfg: line 1, column 4: "));
}

TEST(ParseJson, ColumnsCountCharactersNotBytes) {
  EXPECT_THAT(parse_error("[\"\xC3\xA9\xC3\xA9\" x]"),
              StartsWith("E_FORMAT: cfg: line 1, column 7: "));
}

TEST(ParseJson, RefusesDuplicateKeysWhereTheSecondOneEnds) {
  EXPECT_EQ(parse_error("{\"a\": 1,\n \"a\": 1}"),
            "E_FORMAT: cfg: line 2, column 4: key `a` appears twice");
  EXPECT_EQ(parse_error(R"({"x": [{"b": 0, "\u0062": 1}]})"),
            "E_FORMAT: cfg: line 1, column 24: key `b` appears twice");
}

TEST(ParseJson, NestsSixtyFourDeepAndNoDeeper) {
  EXPECT_NO_THROW(parse_json(nested(64), "cfg"));
  EXPECT_EQ(parse_error(nested(65)), "E_FORMAT: cfg: line 1, column 65: nested more than 64 deep");
  EXPECT_THAT(parse_error(std::string(10'000'000, '[')), HasSubstr("nested more than 64 deep"));
}

TEST(ParseJson, RefusesWhatIsNotStrictJson) {
  for (const char* text :
       {"// c\n1", "/* c */ 1", "{'a': 1}", "{a: 1}",      "[1 2]",    "NaN",  "[Infinity]",
        "-",       "01",        "1.",       ".5",          "+1",       "1 1",  "{\"a\"}",
        "\"\t\"",  "[1e999]",   "[-1e999]", "\"\\ud800\"", "\"\x80\"", "\xFF", "\xEF\xBB"})
    EXPECT_THAT(parse_error(text), StartsWith("E_FORMAT: cfg: line ")) << text;
  EXPECT_EQ(parse_error(std::string_view("[1]\0x", 5)),
            "E_FORMAT: cfg: line 1, column 4: a zero byte");
}

TEST(ParseJson, MessagesAreShortUtf8WhateverTheInput) {
  const std::string message = parse_error("[\"" + std::string(1'000'000, 'x') + "\xFF\"]");
  EXPECT_LT(message.size(), 400U);
  EXPECT_NO_THROW(Json(message).dump());  // dump refuses what is not UTF-8
}

TEST(ParseJson, IntegersBeyondSixtyFourBitsAreNumbersNotIntegers) {
  const Json value = parse_json(
      "[9223372036854775807, 18446744073709551615, 1000000000000000019884624838656]", "");
  EXPECT_TRUE(value[0].is_number_integer());
  EXPECT_TRUE(value[1].is_number_unsigned());
  EXPECT_TRUE(value[2].is_number_float());
  EXPECT_EQ(value[2], 1e30);
}

TEST(ReadJson, ReadsAFileAndNamesItInErrors) {
  const test::Scratch scratch;
  write_file(scratch / "a.json", "{\"a\": 1}");
  write_file(scratch / "b.json", "{");
  EXPECT_EQ(read_json(scratch / "a.json")["a"], 1);
  EXPECT_THAT(error_of([&] { read_json(scratch / "b.json"); }),
              StartsWith("E_FORMAT: " + (scratch / "b.json").string() + ": line 1, column 1: "));
  EXPECT_THAT(error_of([&] { read_json(scratch / "a.json", 7); }), StartsWith("E_FILE: "));
  EXPECT_THAT(error_of([&] { read_json(scratch / "c.json"); }), StartsWith("E_FILE: "));
}

// Expected texts are those of Python's json.dumps(x, sort_keys=True, separators=(",", ":"),
// ensure_ascii=False), so that both languages hash alike.
TEST(Canonical, SortsKeysAndLeavesNoSpace) {
  EXPECT_EQ(
      canonical(Json::parse(R"({"b": [1, {"d": null, "c": false}], "B": {}, "a": [], "é": "\n"})")),
      "{\"B\":{},\"a\":[],\"b\":[1,{\"c\":false,\"d\":null}],\"\xC3\xA9\":\"\\n\"}");
}

TEST(Canonical, KeepsIntegersAndRealsApart) {
  EXPECT_EQ(canonical(Json::parse("[1, 1.0, -0.0, 18446744073709551615, -9223372036854775808]")),
            "[1,1.0,-0.0,18446744073709551615,-9223372036854775808]");
}

TEST(Canonical, PrintsTheShortestNumberThatReadsBackEqual) {
  const std::pair<double, const char*> cases[] = {
      {0.1, "0.1"},
      {1e15, "1000000000000000.0"},
      {1e16, "1e+16"},
      {123456789012345680.0, "1.2345678901234568e+17"},
      {0.0001, "0.0001"},
      {0.00001, "1e-05"},
      {5e-324, "5e-324"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {1.0 / 3, "0.3333333333333333"},
      {9007199254740993.0, "9007199254740992.0"},
      {2e-44, "2e-44"},
      {9.5367431640625e-07, "9.5367431640625e-07"}};
  for (const auto& [value, text] : cases) {
    EXPECT_EQ(canonical(Json(value)), text);
    EXPECT_EQ(parse_json(text, "").get<double>(), value);
  }
}

TEST(Canonical, IsAFixedPointOfParsing) {
  const std::string text =
      canonical(Json::parse(R"({"x": [0.30000000000000004, -1e-7, 12, "\u0001\"\\"]})"));
  EXPECT_EQ(canonical(parse_json(text, "")), text);
}

TEST(Canonical, RefusesWhatJsonCannotHold) {
  EXPECT_THAT(error_of([] { canonical(Json(std::nan(""))); }), StartsWith("E_NONFINITE: "));
  EXPECT_THAT(error_of([] { canonical(Json(std::numeric_limits<double>::infinity())); }),
              StartsWith("E_NONFINITE: "));
  EXPECT_EQ(error_of([] { canonical(Json({{"\xFF", 1}})); }),
            "E_FORMAT: JSON: the string `\\xff` is not UTF-8");
}

TEST(NearestName, ForgivesOneSlipInThreeLetters) {
  const std::vector<std::string> known{"dense", "quant", "window", "head_dim", "h2o"};
  EXPECT_EQ(nearest_name("qant", known), "quant");      // left out
  EXPECT_EQ(nearest_name("qaunt", known), "quant");     // swapped
  EXPECT_EQ(nearest_name("windoww", known), "window");  // doubled
  EXPECT_EQ(nearest_name("DENSE", known), "dense");     // case is free
  EXPECT_EQ(nearest_name("head-dim", known), "head_dim");
  EXPECT_EQ(nearest_name("h20", known), "h2o");
  EXPECT_EQ(nearest_name("palu", known), "");
  EXPECT_EQ(nearest_name("", known), "");
  EXPECT_EQ(nearest_name("x", std::vector<std::string>{"y"}), "");
}

TEST(NearestName, PrefersTheNearestThenTheFirst) {
  EXPECT_EQ(nearest_name("abcdef", std::vector<std::string>{"abcxyf", "abcdxf"}), "abcdxf");
  EXPECT_EQ(nearest_name("abcdef", std::vector<std::string>{"abcdeg", "abcdeh"}), "abcdeg");
}

TEST(NearestName, IsCheapForNamesOfAnyLength) {
  EXPECT_EQ(nearest_name(std::string(10'000'000, 'a'), std::vector<std::string>{"a", "aa"}), "");
}

TEST(Suggestion, NamesTheNearestElseListsWhatIsKnown) {
  const std::vector<std::string> known{"dense", "quant"};
  EXPECT_EQ(suggestion("qant", known), "; did you mean `quant`?");
  EXPECT_EQ(suggestion("zzz", known), "; known: dense, quant");
  EXPECT_EQ(suggestion("zzz", {}), "; there are none");
  const std::vector<std::string> many(25, "palu");
  EXPECT_THAT(suggestion("zzz", many), testing::EndsWith("palu and 5 more"));
}

}  // namespace
}  // namespace kvlab
