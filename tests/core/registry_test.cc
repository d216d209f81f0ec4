#include "core/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Registry, FindsByName) {
  Registry registry;
  registry.add(Method{.name = "b", .summary = "second"});
  registry.add(
      Method{.name = "a", .schema = R"({"n": {"type": "integer", "default": 3, "doc": "d"}})"});
  registry.add(Codec{.name = "int4", .bound = "half a step"});
  EXPECT_EQ(registry.method("b").summary, "second");
  EXPECT_EQ(registry.method_schema("a").parameters().at(0).name, "n");
  EXPECT_EQ(registry.codec("int4").bound, "half a step");
  EXPECT_TRUE(registry.codec_schema("int4").parameters().empty());
  EXPECT_THAT(registry.methods(), ElementsAre("a", "b"));
  EXPECT_THAT(registry.codecs(), ElementsAre("int4"));
  EXPECT_TRUE(registry.has_method("a") && registry.has_codec("int4"));
  EXPECT_FALSE(registry.has_method("int4") || registry.has_codec("a"));
}

TEST(Registry, ReferencesSurviveLaterAdditions) {
  Registry registry;
  registry.add(Method{.name = "m"});
  const Method& first = registry.method("m");
  for (int i = 0; i < 100; ++i) registry.add(Method{.name = "m" + std::to_string(i)});
  EXPECT_EQ(&first, &registry.method("m"));
}

TEST(Registry, NamesTheNearestOrAll) {
  Registry registry;
  EXPECT_EQ(error_of([&] { registry.method("quant"); }),
            "E_UNKNOWN: there is no method `quant`; there are none");
  registry.add(Method{.name = "quant"});
  registry.add(Codec{.name = "int4"});
  EXPECT_EQ(error_of([&] { registry.method("qant"); }),
            "E_UNKNOWN: there is no method `qant`; did you mean `quant`?");
  EXPECT_EQ(error_of([&] { registry.method_schema("palu"); }),
            "E_UNKNOWN: there is no method `palu`; known: quant");
  EXPECT_EQ(error_of([&] { registry.codec("int5"); }),
            "E_UNKNOWN: there is no codec `int5`; did you mean `int4`?");
  EXPECT_THAT(error_of([&] { registry.codec_schema("zzz"); }), StartsWith("E_UNKNOWN: "));
}

TEST(Registry, RefusesNamesThatAreTakenOrNone) {
  Registry registry;
  registry.add(Method{.name = "m"});
  registry.add(Codec{.name = "m"});  // codecs have names of their own
  EXPECT_THAT(error_of([&] { registry.add(Method{.name = "m"}); }),
              StartsWith("E_CONFIG: method `m` is already registered"));
  EXPECT_THAT(error_of([&] { registry.add(Codec{.name = "m"}); }),
              StartsWith("E_CONFIG: codec `m` is already registered"));
  for (const char* name : {"", "Quant", "4bit", "a-b", "a+b", "_a", "\xC3\xA9"})
    EXPECT_THAT(error_of([&] { registry.add(Method{.name = name}); }),
                HasSubstr("a name is a lower-case letter"))
        << name;
  EXPECT_THAT(error_of([&] { registry.add(Method{.name = "compose"}); }),
              StartsWith("E_CONFIG: method `compose`"));
}

TEST(Registry, RefusesSchemasThatAreNone) {
  Registry registry;
  EXPECT_THAT(error_of([&] { registry.add(Method{.name = "m", .schema = "{"}); }),
              StartsWith("E_FORMAT: m: schema: "));
  EXPECT_THAT(error_of([&] { registry.add(Method{.name = "m", .schema = R"({"p": 1})"}); }),
              StartsWith("E_CONFIG: m: schema of parameter `p`"));
  EXPECT_FALSE(registry.has_method("m"));
}

TEST(RegisterAll, KnowsEveryMethodOfThisBuildAndWhatItIs) {
  Registry registry;
  register_all(registry);
  EXPECT_FALSE(registry.methods().empty());
  for (const std::string& name : registry.methods())
    EXPECT_FALSE(registry.method(name).summary.empty()) << name;
}

}  // namespace
}  // namespace kvlab
