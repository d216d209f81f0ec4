// Templates know {field}, and {{ }} for braces.

#include "eval/tasks/file/template.h"

#include <gmock/gmock.h>

#include "tests/support/refusal.h"

namespace kvlab::tasks::file {
namespace {

const Document kBirth{
    .fields = {{"name", "Ada"}, {"year", 1815}, {"ok", true}, {"list", {"a", "b"}}, {"none", {}}},
    .place = "docs.jsonl, line 3"};

std::string filled(std::string_view text) { return Template("context", text).fill(kBirth); }

TEST(Template, PutsFieldsIntoText) {
  EXPECT_EQ(filled("{name}, born {year}: {ok}"), "Ada, born 1815: true");
  EXPECT_EQ(filled(""), "");
  EXPECT_EQ(filled("{name}{name}"), "AdaAda");
}

TEST(Template, DoubledBracesAreBraces) {
  EXPECT_EQ(filled("{{name}} {{{name}}}"), "{name} {Ada}");
  EXPECT_EQ(filled("f() {{ }}"), "f() { }");
}

TEST(Template, ASingleFieldIsTheValueItself) {
  EXPECT_EQ(Template("choices", "{list}").value(kBirth), Json({"a", "b"}));
  EXPECT_EQ(Template("gold", "{year}").value(kBirth), 1815);
  EXPECT_EQ(Template("gold", " {year}").value(kBirth), " 1815");
  EXPECT_EQ(Template("gold", "x").value(kBirth), "x");
}

TEST(Template, AMissingFieldNamesTheDocumentsLine) {
  EXPECT_REFUSED("E_FORMAT", "docs.jsonl, line 3: there is no field `nam`, which `context` names",
                 filled("{nam}"));
  EXPECT_REFUSED("E_FORMAT", "did you mean `name`?", filled("{nam}"));
}

TEST(Template, AListIsNoText) {
  EXPECT_REFUSED("E_FORMAT", "docs.jsonl, line 3: field `list` is [\"a\",\"b\"]",
                 filled(" {list}"));
  EXPECT_REFUSED("E_FORMAT", "is null", filled("{none}"));
}

TEST(Template, ABraceAloneIsRefused) {
  for (const char* text : {"{", "}", "{name", "name}", "{}", "{a{b}", "x {name}}", "{{name}"})
    EXPECT_REFUSED("E_CONFIG", "write {{ or }} for a brace", filled(text)) << text;
  EXPECT_REFUSED("E_CONFIG", "at byte 2", filled("x {"));
}

}  // namespace
}  // namespace kvlab::tasks::file
