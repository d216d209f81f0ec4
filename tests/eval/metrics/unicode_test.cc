// Code points and the words of Python's str, case by case; test_text_metrics.py asks Python itself.

#include "eval/unicode.h"

#include <gmock/gmock.h>

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using std::string_view_literals::operator""sv;

std::string lowered(std::string_view text) { return utf8(lower(code_points(text))); }

TEST(Unicode, CodePointsAndBack) {
  const std::string text = "a\u00fc\u20ac\U0001d11e";
  EXPECT_EQ(code_points(text), U"a\u00fc\u20ac\U0001d11e");
  EXPECT_EQ(utf8(code_points(text)), text);
}

TEST(Unicode, AByteThatBeginsNoCharacterIsReplaced) {
  EXPECT_EQ(code_points("a\xff\xc3"), U"a\uFFFD\uFFFD");
  EXPECT_EQ(code_points("\xe2\x82z"), U"\uFFFD\uFFFDz");
  EXPECT_EQ(code_points(""), U"");
}

TEST(Unicode, LowersLatinGreekAndCyrillic) {
  EXPECT_EQ(lowered("ÀÉ×ÞŸ ŁĹ"), "àé×þÿ łĺ");
  EXPECT_EQ(lowered("ΆΑΩ ЀЯ"), "άαω ѐя");
  EXPECT_EQ(lowered("İ"), "i\u0307");
  EXPECT_EQ(lowered("straße ẞ 中文"), "straße ß 中文");
}

TEST(Unicode, ASigmaThatEndsAWordIsFinal) {
  EXPECT_EQ(lowered("ΟΔΟΣ ΣΑΣ. Σ"), "οδος σας. σ");
  EXPECT_EQ(lowered("Σ'Α"), "σ'α");
}

TEST(Unicode, SplitsAtEverySpaceThatPythonKnows) {
  EXPECT_THAT(words(U" a\u3000b\u00a0\u2009c\x1f\x85"), ElementsAre(U"a", U"b", U"c"));
  EXPECT_THAT(words(U" \n"), IsEmpty());
  EXPECT_THAT(words(U"a\u200bb"), ElementsAre(U"a\u200bb"));  // no space, whatever its name
}

TEST(Unicode, WordsAreLettersAndDigitsOfAnyScript) {
  for (const char32_t c : U"az09_äж中ª"sv) EXPECT_TRUE(is_word(c)) << static_cast<uint32_t>(c);
  for (const char32_t c : U" -.\u2019\u201c\u3002\uff01×€"sv)
    EXPECT_FALSE(is_word(c)) << static_cast<uint32_t>(c);
}

TEST(Unicode, PunctuationIsThat32OfAscii) {
  std::string all;
  for (char32_t c = 0; c < 0x100; ++c)
    if (is_ascii_punctuation(c)) all += static_cast<char>(c);
  EXPECT_EQ(all, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~");
}

}  // namespace
}  // namespace kvlab
