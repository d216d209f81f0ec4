#include "eval/text.h"

#include <gmock/gmock.h>

#include <fstream>
#include <string>

#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::HasSubstr;

/// UTF-8 as RFC 3629 writes it, for any number; what is no character is written all the same.
std::string encoded(uint32_t code, int bytes) {
  constexpr std::array<unsigned char, 5> kLead{0, 0, 0xC0, 0xE0, 0xF0};
  std::string text;
  for (int i = bytes - 1; i >= 1; --i) {
    text.insert(text.begin(), static_cast<char>(0x80 | (code & 0x3F)));
    code >>= 6;
  }
  text.insert(text.begin(), static_cast<char>(kLead[static_cast<size_t>(bytes)] | code));
  return text;
}

int bytes_for(uint32_t code) { return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; }

TEST(Utf8, EveryCharacterIsValidAndNothingElse) {
  for (uint32_t code = 0; code <= 0x1FFFFF; ++code)
    for (int bytes = std::max(bytes_for(code), code < 0x80 ? 1 : 2); bytes <= 4; ++bytes) {
      const bool is_character =
          bytes == bytes_for(code) && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
      ASSERT_EQ(first_invalid_utf8("a" + encoded(code, bytes)), is_character ? -1 : 1)
          << "code " << code << " in " << bytes << " bytes";
    }
}

TEST(Utf8, ACharacterCutOffByTheEndIsInvalidWhereItBegins) {
  const std::string text = "x" + encoded(0x1F600, 4);
  for (size_t kept = 2; kept < text.size(); ++kept)
    EXPECT_EQ(first_invalid_utf8(text.substr(0, kept)), 1);
}

TEST(Utf8, AContinuationByteBeginsNothing) {
  EXPECT_EQ(first_invalid_utf8("ab\x80"), 2);
  EXPECT_EQ(first_invalid_utf8("ab\xFF"), 2);
  EXPECT_EQ(first_invalid_utf8("\xE2\x28\xA1"), 0);
  EXPECT_EQ(first_invalid_utf8(""), -1);
}

TEST(ReadText, KeepsEveryByte) {
  const test::Scratch folder;
  const std::string text = std::string("\xEF\xBB\xBF zwei\r\nZeilen \0 ", 20) + encoded(0x4F60, 3);
  std::ofstream(folder / "a.txt", std::ios::binary) << text;
  EXPECT_EQ(read_text(folder / "a.txt"), text);
}

TEST(ReadText, NamesTheFirstByteThatIsNotUtf8) {
  const test::Scratch folder;
  std::ofstream(folder / "latin1.txt", std::ios::binary) << "caf\xE9 noir";
  EXPECT_THAT(error_of([&] { read_text(folder / "latin1.txt"); }),
              testing::AllOf(testing::StartsWith("E_FORMAT: "), HasSubstr("latin1.txt"),
                             HasSubstr("byte 3 (0xe9)")));
}

TEST(ReadText, SaysWhyAFileCannotBeRead) {
  const test::Scratch folder;
  EXPECT_THAT(error_of([&] { read_text(folder / "none.txt"); }),
              testing::AllOf(testing::StartsWith("E_FILE: "), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { read_text(folder.path()); }),
              testing::AllOf(testing::StartsWith("E_FILE: "), HasSubstr("directory")));
}

}  // namespace
}  // namespace kvlab
