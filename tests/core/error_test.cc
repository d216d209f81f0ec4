#include "core/error.h"

#include <gtest/gtest.h>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;

TEST(Error, CarriesItsCodeApartFromItsSentence) {
  try {
    fail("E_SHAPE", "cache: head_dim is ", 3, ", must be even");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E_SHAPE");
    EXPECT_EQ(error.message(), "cache: head_dim is 3, must be even");
    EXPECT_STREQ(error.what(), "E_SHAPE: cache: head_dim is 3, must be even");
  }
}

TEST(Error, AFailedCheckNamesItsPlaceAndCondition) {
  const std::string text = error_of([] { KVLAB_CHECK(1 + 1 == 3); });
  EXPECT_EQ(text.substr(0, 12), "E_INTERNAL: ");
  EXPECT_NE(text.find("error_test.cc:"), text.npos);
  EXPECT_NE(text.find("1 + 1 == 3 does not hold"), text.npos);
}

TEST(Printable, KeepsTextAndEscapesTheRest) {
  EXPECT_EQ(printable("palu \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "palu \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(printable(std::string_view("a\0b\n\x7F", 5)), "a\\x00b\\x0a\\x7f");
}

TEST(Printable, EscapesEveryIllFormedSequence) {
  EXPECT_EQ(printable("\x80"), "\\x80");                             // continuation without a lead
  EXPECT_EQ(printable("\xC0\xAF"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(printable("\xE0\x9F\xBF"), "\\xe0\\x9f\\xbf");           // overlong
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(printable("\xF4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond U+10FFFF
  EXPECT_EQ(printable("\xE2\x82"), "\\xe2\\x82");                    // cut off
  EXPECT_EQ(printable("\xF0\x9F\x98x"), "\\xf0\\x9f\\x98x");
}

TEST(Printable, CutsLongTextAfterWholeCharacters) {
  EXPECT_EQ(printable("\xC3\xA9\xC3\xA9\xC3\xA9", 2), "\xC3\xA9\xC3\xA9...");
  EXPECT_EQ(printable("abc", 3), "abc");
}

}  // namespace
}  // namespace kvlab
