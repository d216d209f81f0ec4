#include "core/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::StartsWith;

/// Every kind of parameter there is.
const Schema& example_schema() {
  static const Schema schema = Schema::parse(R"({
      "bits":   {"type": "integer", "default": 4, "choices": [8, 4, 2], "unit": "bit", "doc": "d"},
      "recent": {"type": "integer", "default": 1, "minimum": 0, "unit": "token", "doc": "d"},
      "share":  {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1, "doc": "d"},
      "axis":   {"type": "string", "default": "token", "choices": ["token", "channel"], "doc": "d"},
      "rotate": {"type": "boolean", "default": false, "doc": "d"},
      "rank":   {"type": ["integer", "string"], "minimum": 1, "choices": [1, 2, "auto"], "default": "auto", "doc": "d"},
      "limit":  {"type": ["integer", "null"], "default": null, "maximum": 9, "doc": "d"},
      "layers": {"type": "array", "items": "integer", "minimum": 0, "maximum": 31, "default": [], "doc": "d"},
      "key":    {"type": "object", "default": {}, "doc": "d",
                 "fields": {"bits": {"type": "integer", "default": 8, "minimum": 1, "maximum": 8, "doc": "d"},
                            "scale": {"type": "number", "default": 1, "doc": "d"}}},
      "extra":  {"type": "object", "default": {"x": 1}, "doc": "d"}})",
                                             "quant");
  return schema;
}

std::string refusal(const char* given) {
  return error_of([&] { example_schema().complete(Json::parse(given), "quant"); });
}

std::string schema_refusal(const std::string& parameter) {
  return error_of([&] { Schema::parse("{\"p\": " + parameter + "}", "m"); });
}

TEST(Schema, FillsInDefaults) {
  EXPECT_EQ(canonical(example_schema().complete(Json::object(), "quant")),
            R"({"axis":"token","bits":4,"extra":{"x":1},"key":{"bits":8,"scale":1.0},"layers":[],)"
            R"("limit":null,"rank":"auto","recent":1,"rotate":false,"share":0.5})");
}

TEST(Schema, KeepsWhatIsGiven) {
  const Json given = Json::parse(
      R"({"bits": 2, "share": 0.25, "rank": 2, "limit": 9, "layers": [0, 31], "key": {"bits": 3}, "extra": {"y": []}})");
  const Json complete = example_schema().complete(given, "quant");
  for (const char* key : {"bits", "share", "rank", "limit", "layers", "extra"})
    EXPECT_EQ(complete[key], given[key]) << key;
  EXPECT_EQ(complete["key"], Json::parse(R"({"bits": 3, "scale": 1.0})"));
}

TEST(Schema, IsIdempotent) {
  const Json complete =
      example_schema().complete(Json::parse(R"({"share": 1, "key": {"scale": 2}})"), "quant");
  EXPECT_EQ(canonical(example_schema().complete(complete, "quant")), canonical(complete));
}

TEST(Schema, IntegersGivenForNumbersBecomeReal) {
  const auto text = [](const char* given) {
    return canonical(example_schema().complete(Json::parse(given), "quant"));
  };
  EXPECT_EQ(text(R"({"share": 1})"), text(R"({"share": 1.0})"));
  EXPECT_EQ(text(R"({"key": {"scale": 3}})"), text(R"({"key": {"scale": 3.0}})"));
}

TEST(Schema, NamesTheNearestParameter) {
  EXPECT_EQ(refusal(R"({"bit": 4})"),
            "E_UNKNOWN: quant: there is no parameter `bit`; did you mean `bits`?");
  EXPECT_THAT(refusal(R"({"zzzzzz": 4})"),
              StartsWith("E_UNKNOWN: quant: there is no parameter `zzzzzz`; known: axis, bits, "));
  EXPECT_EQ(
      refusal(R"({"key": {"bit": 4}})"),
      "E_UNKNOWN: quant: parameter `key`: there is no parameter `key.bit`; did you mean `bits`?");
}

TEST(Schema, RefusesTheWrongType) {
  EXPECT_EQ(refusal(R"({"recent": "four"})"),
            "E_CONFIG: quant: parameter `recent` is \"four\" (string), allowed is integer");
  EXPECT_EQ(refusal(R"({"recent": 1.0})"),
            "E_CONFIG: quant: parameter `recent` is 1.0 (real number), allowed is integer");
  EXPECT_EQ(refusal(R"({"limit": true})"),
            "E_CONFIG: quant: parameter `limit` is true (boolean), allowed is integer or null");
  EXPECT_EQ(refusal(R"({"bits": null})"),
            "E_CONFIG: quant: parameter `bits` is null (null), allowed is integer");
  EXPECT_EQ(refusal(R"({"layers": [1, "2"]})"),
            "E_CONFIG: quant: parameter `layers[1]` is \"2\" (string), allowed is integer");
  EXPECT_EQ(refusal(R"({"key": {"bits": []}})"),
            "E_CONFIG: quant: parameter `key.bits` is [] (array), allowed is integer");
  EXPECT_EQ(refusal(R"({"recent": 9223372036854775808})"),
            "E_CONFIG: quant: parameter `recent` is 9223372036854775808 (integer beyond 64 bit), "
            "allowed is integer");
  EXPECT_EQ(refusal("[]"), "E_CONFIG: quant: parameters are [], they must be an object");
}

TEST(Schema, RefusesWhatIsOutsideTheRange) {
  EXPECT_EQ(refusal(R"({"recent": -1})"),
            "E_CONFIG: quant: parameter `recent` is -1, allowed is at least 0 token");
  EXPECT_EQ(refusal(R"({"limit": 10})"),
            "E_CONFIG: quant: parameter `limit` is 10, allowed is at most 9");
  EXPECT_EQ(refusal(R"({"share": 1.5})"),
            "E_CONFIG: quant: parameter `share` is 1.5, allowed is 0..1");
  EXPECT_EQ(refusal(R"({"layers": [0, 32]})"),
            "E_CONFIG: quant: parameter `layers[1]` is 32, allowed is 0..31");
  EXPECT_EQ(refusal(R"({"key": {"bits": 9}})"),
            "E_CONFIG: quant: parameter `key.bits` is 9, allowed is 1..8");
  EXPECT_EQ(error_of([] { example_schema().complete({{"share", std::nan("")}}, "quant"); }),
            "E_CONFIG: quant: parameter `share` is nan, allowed are finite numbers");
}

TEST(Schema, RangesIncludeTheirEnds) {
  for (const char* given :
       {R"({"share": 0})", R"({"share": 1})", R"({"layers": [0, 31]})", R"({"recent": 0})"})
    EXPECT_EQ(refusal(given), "no error");
}

TEST(Schema, RefusesWhatIsNoChoice) {
  EXPECT_EQ(refusal(R"({"bits": 3})"),
            "E_CONFIG: quant: parameter `bits` is 3, allowed is 8, 4 or 2 bit");
  EXPECT_EQ(refusal(R"({"axis": "tokens"})"),
            "E_CONFIG: quant: parameter `axis` is \"tokens\", allowed is \"token\" or \"channel\"; "
            "did you mean \"token\"?");
}

TEST(Schema, RefusesWhatIsMissing) {
  const Schema schema = Schema::parse(R"({"rank": {"type": "integer", "doc": "d"}})", "palu");
  EXPECT_EQ(error_of([&] { schema.complete(Json::object(), "palu"); }),
            "E_CONFIG: palu: parameter `rank` (integer) is missing and has no default");
}

TEST(Schema, MessagesStayShort) {
  EXPECT_LT(refusal(("{\"recent\": \"" + std::string(100'000, 'x') + "\"}").c_str()).size(), 300U);
  EXPECT_LT(refusal(("{\"" + std::string(100'000, 'x') + "\": 1}").c_str()).size(), 400U);
}

TEST(Schema, NoTextMeansNoParameters) {
  const Schema schema = Schema::parse("", "dense");
  EXPECT_TRUE(schema.parameters().empty());
  EXPECT_EQ(schema.complete(Json::object(), "dense"), Json::object());
  EXPECT_EQ(error_of([&] { schema.complete({{"bits", 4}}, "dense"); }),
            "E_UNKNOWN: dense: there is no parameter `bits`; there are none");
}

TEST(Schema, IsItselfChecked) {
  EXPECT_THAT(error_of([] { Schema::parse("{", "m"); }),
              StartsWith("E_FORMAT: m: schema: line 1, "));
  EXPECT_EQ(error_of([] { Schema::parse("[]", "m"); }),
            "E_CONFIG: m: its schema must be an object");
  EXPECT_EQ(schema_refusal("[]"), "E_CONFIG: m: schema of parameter `p`: it must be an object");
  EXPECT_THAT(schema_refusal(R"({"type": "int", "doc": "d"})"),
              HasSubstr("type \"int\" is not one of"));
  EXPECT_THAT(schema_refusal(R"({"type": [], "doc": "d"})"), HasSubstr("it has no type"));
  EXPECT_THAT(schema_refusal(R"({"doc": "d"})"), HasSubstr("type null is not one of"));
  EXPECT_THAT(schema_refusal(R"({"type": "integer"})"), HasSubstr("it needs a `doc`"));
  EXPECT_THAT(schema_refusal(R"({"type": "integer", "doc": "d", "unit": 3})"),
              HasSubstr("`unit` must be a string"));
  EXPECT_THAT(schema_refusal(R"({"type": "integer", "doc": "d", "min": 3})"),
              HasSubstr("unknown key `min`"));
  EXPECT_THAT(schema_refusal(R"({"type": "integer", "doc": "d", "defalt": 3})"),
              HasSubstr("did you mean `default`?"));
  EXPECT_THAT(schema_refusal(R"({"type": "integer", "doc": "d", "minimum": "0"})"),
              HasSubstr("its range must be of numbers"));
  EXPECT_THAT(schema_refusal(R"({"type": "integer", "doc": "d", "choices": []})"),
              HasSubstr("`choices` must be a list"));
}

TEST(Schema, ADefaultObeysItsOwnRules) {
  EXPECT_EQ(schema_refusal(R"({"type": "integer", "doc": "d", "default": 0, "minimum": 1})"),
            "E_CONFIG: m: parameter `p` is 0, allowed is at least 1");
  EXPECT_THAT(schema_refusal(R"({"type": "integer", "doc": "d", "default": 1.5})"),
              StartsWith("E_CONFIG: m: parameter `p`"));
  EXPECT_THAT(
      schema_refusal(
          R"({"type": "object", "doc": "d", "default": {}, "fields": {"q": {"type": "integer", "doc": "d"}}})"),
      HasSubstr("parameter `p.q` (integer) is missing"));
}

}  // namespace
}  // namespace kvlab
