#include "eval/corpus/recall/form.h"

#include <gtest/gtest.h>

namespace kvlab::corpus {
namespace {

TEST(Form, FillsItsPlaces) {
  EXPECT_EQ(filled("The {t} of {k} is {v}.", {.k = "x", .v = "1", .t = "number"}),
            "The number of x is 1.");
}

TEST(Form, LeavesOtherBracesAlone) {
  EXPECT_EQ(filled("{ {k}: {'{v}'} {", {.k = "a", .v = "b"}), "{ a: {'b'} {");
  EXPECT_EQ(filled("{x} {k", {.k = "a"}), "{x} {k");
}

}  // namespace
}  // namespace kvlab::corpus
