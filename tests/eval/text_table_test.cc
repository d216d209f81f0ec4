#include "eval/text_table.h"

#include <gtest/gtest.h>

namespace kvlab {
namespace {

TEST(TextTable, NumbersStandToTheRightAndTextToTheLeft) {
  TextTable table({"method", "cr", "Δ", "note"});
  table.add({"dense", "1", "–", "as it is"});
  table.add({"quant", "12.5", "+0.25", "4"});
  EXPECT_EQ(table.markdown(),
            "| method |   cr |     Δ | note     |\n"
            "|--------|-----:|------:|----------|\n"
            "| dense  |    1 |     – | as it is |\n"
            "| quant  | 12.5 | +0.25 | 4        |\n");
}

TEST(TextTable, BoldNumbersAreNumbers) {
  TextTable table({"a", "acc"});
  table.add({"b", "**0.5**"});
  table.add({"c", "1"});
  EXPECT_EQ(table.markdown(),
            "| a   |     acc |\n"
            "|-----|--------:|\n"
            "| b   | **0.5** |\n"
            "| c   |       1 |\n");
}

TEST(TextTable, AColumnIsAtLeastAsWideAsItsRule) {
  TextTable table({"a", "b"});
  EXPECT_EQ(table.markdown(), "| a   |   b |\n|-----|----:|\n");
}

}  // namespace
}  // namespace kvlab
