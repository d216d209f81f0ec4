// What every method says of its parameters, and what becomes of values it does not allow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/conformance/subjects.h"
#include "tests/support/error.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class Parameters : public testing::TestWithParam<std::string> {
 protected:
  const std::vector<Parameter>& parameters() const {
    return registry().method_schema(GetParam()).parameters();
  }
  std::string refusal_of(const std::string& key, const Json& value) const {
    return error_of(
        [&] { parse_methods({{"name", GetParam()}, {"params", {{key, value}}}}, registry()); });
  }
};

TEST_P(Parameters, AreDocumentedAndHaveDefaults) {
  EXPECT_FALSE(registry().method(GetParam()).summary.empty());
  for (const Parameter& parameter : parameters()) {
    EXPECT_FALSE(parameter.doc.empty()) << parameter.name;
    EXPECT_FALSE(parameter.required) << parameter.name << ": a name alone should be a method";
  }
}

TEST_P(Parameters, RefuseAKeyNobodyKnows) {
  EXPECT_THAT(refusal_of("no_such_parameter", 1),
              AllOf(StartsWith("E_UNKNOWN: "), HasSubstr("no_such_parameter")));
  for (const Parameter& parameter : parameters())
    EXPECT_THAT(refusal_of(parameter.name + "x", 1),
                AllOf(StartsWith("E_UNKNOWN: "), HasSubstr(parameter.name)))
        << "the nearest key is not named";
}

TEST_P(Parameters, RefuseAnotherTypeAndWhatLiesOutsideTheRange) {
  for (const Parameter& parameter : parameters()) {
    const auto expect_refused = [&](const Json& value) {
      EXPECT_THAT(refusal_of(parameter.name, value),
                  AllOf(StartsWith("E_CONFIG: "), HasSubstr(parameter.name)))
          << value;
    };
    expect_refused(Json::array({Json::object()}));
    expect_refused(parameter.standard.is_string() ? Json(7) : Json("no such value"));
    if (!parameter.choices.empty())
      expect_refused(parameter.standard.is_string() ? Json("no such choice") : Json(123456789));
    if (!parameter.minimum.is_null()) expect_refused(parameter.minimum.get<int64_t>() - 1);
    if (!parameter.maximum.is_null()) expect_refused(parameter.maximum.get<int64_t>() + 1);
  }
}

TEST_P(Parameters, OfAMethodWhosePaperIsComputedAnewComeWithWholeTables) {
  if (registry().method(GetParam()).paper == nullptr) return;
  const Json paper = registry().method(GetParam()).paper();
  EXPECT_FALSE(paper.at("tables").empty());
  for (const Json& table : paper.at("tables")) {
    EXPECT_TRUE(table.at("title").is_string());
    EXPECT_FALSE(table.at("rows").empty()) << table.at("title");
    for (const Json& row : table.at("rows")) {
      EXPECT_EQ(row.size(), table.at("columns").size()) << table.at("title") << row;
      for (const Json& cell : row) EXPECT_TRUE(cell.is_string() || cell.is_number()) << row;
    }
  }
}

TEST_P(Parameters, AreTriedAtTheirDefaultsUnlessTheNetworkIsNoneForTheMethod) {
  const std::string refusal = refusal_of_defaults(GetParam());
  EXPECT_THAT(refusal, testing::AnyOf("no error", StartsWith("E_CONFIG: "), StartsWith("E_SHAPE: "),
                                      StartsWith("E_UNSUPPORTED: ")));
}

INSTANTIATE_TEST_SUITE_P(Registered, Parameters, testing::ValuesIn(registry().methods()),
                         [](const auto& method) { return method.param; });

TEST(Pairs, ThatDoNotGoTogetherAreRefusedWithBothNamesAndTheReason) {
  for (const RefusedPair& pair : refused_pairs())
    EXPECT_THAT(pair.refusal, AllOf(StartsWith("E_COMPOSE: "), HasSubstr(pair.first),
                                    HasSubstr(pair.second), HasSubstr(": ")));
}

}  // namespace
}  // namespace kvlab::test
