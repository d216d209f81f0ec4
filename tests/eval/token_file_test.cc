#include "eval/token_file.h"

#include <gmock/gmock.h>

#include <fstream>
#include <string>

#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<int32_t> parse(std::string_view text, int64_t vocab = 1000) {
  TokenParser parser("t.json", vocab);
  parser.feed(text);
  return parser.finish();
}

std::string refusal(std::string_view text, int64_t vocab = 1000) {
  return error_of([&] { parse(text, vocab); });
}

TEST(TokenFile, IsAJsonListOfIntegers) {
  EXPECT_THAT(parse("[1, 20,300]"), ElementsAre(1, 20, 300));
  EXPECT_THAT(parse(" \n[ 0 ]\t\r\n"), ElementsAre(0));
  EXPECT_THAT(parse("[]"), IsEmpty());
}

TEST(TokenFile, OrIntegersSeparatedByWhiteSpace) {
  EXPECT_THAT(parse("1 20\n300\t4\r\n5"), ElementsAre(1, 20, 300, 4, 5));
  EXPECT_THAT(parse("  7  "), ElementsAre(7));
  EXPECT_THAT(parse(""), IsEmpty());
  EXPECT_THAT(parse(" \n"), IsEmpty());
}

TEST(TokenFile, MeansTheSameInPiecesOfAnySize) {
  for (const std::string text : {"[12, 345 ,6]", "12 345\n6"})
    for (size_t piece = 1; piece <= text.size(); ++piece) {
      TokenParser parser("t", 1000);
      for (size_t at = 0; at < text.size(); at += piece) parser.feed(text.substr(at, piece));
      EXPECT_THAT(parser.finish(), ElementsAre(12, 345, 6)) << text << " in pieces of " << piece;
    }
}

TEST(TokenFile, NamesTheTokenThatIsNotInTheVocabulary) {
  EXPECT_THAT(refusal("[5, 6, 10]", 10),
              AllOf(StartsWith("E_POSITION: t.json: token 2 is 10"), HasSubstr("0..9")));
  EXPECT_THAT(refusal("3 -1 4"), StartsWith("E_POSITION: t.json: token 1 is -1"));
  EXPECT_THAT(refusal("3 -0 4"), StartsWith("E_POSITION: t.json: token 1 is -0"));
  EXPECT_THAT(refusal("123456789012345678901234567890"),
              StartsWith("E_POSITION: t.json: token 0 is beyond 123456789012345678"));
}

TEST(TokenFile, NamesTheByteThatDoesNotBelong) {
  const auto expect = [](std::string_view text, std::string_view place) {
    EXPECT_THAT(refusal(text), AllOf(StartsWith("E_FORMAT: t.json: "), HasSubstr(place))) << text;
  };
  expect("x", "`x` at byte 0, expected `[` or an integer");
  expect("\xEF\xBB\xBF[1]", "byte value 239 at byte 0");
  expect("{\"a\": 1}", "`{` at byte 0");
  expect("[1 2]", "`2` at byte 3, expected `,` or `]`");
  expect("[1,,2]", "`,` at byte 3, expected an integer");
  expect("[,]", "`,` at byte 1, expected an integer or `]`");
  expect("[1,]", "`]` at byte 3, expected an integer");
  expect("[1] 2", "`2` at byte 4, expected nothing");
  expect("[1.5]", "`.` at byte 2");
  expect("[[1]]", "`[` at byte 1");
  expect("1,2", "`,` at byte 1, expected integers and white space");
  expect("1 2]", "`]` at byte 3");
  expect("1e3", "`e` at byte 1");
  expect("- 3", "byte value 32 at byte 1, expected a digit");
  expect("+3", "`+` at byte 0");
}

TEST(TokenFile, NoticesThatAListIsCutOff) {
  for (const char* text : {"[", "[1", "[1,", "[1, 2 ", "[-"})
    EXPECT_THAT(refusal(text), AllOf(StartsWith("E_FORMAT: "), HasSubstr("ends after"))) << text;
  EXPECT_THAT(refusal("1 -"), AllOf(StartsWith("E_FORMAT: "), HasSubstr("expected a digit")));
}

TEST(TokenFile, IsReadInBlocks) {
  const test::Scratch folder;
  constexpr int kTokens = 400'000;  // several blocks of a MiB
  {
    std::ofstream file(folder / "long.txt");
    for (int i = 0; i < kTokens; ++i) file << i % 50000 << ' ';
  }
  const std::vector<int32_t> tokens = read_token_file(folder / "long.txt", 50000);
  ASSERT_EQ(tokens.size(), static_cast<size_t>(kTokens));
  for (int i = 0; i < kTokens; ++i) ASSERT_EQ(tokens[static_cast<size_t>(i)], i % 50000);
}

}  // namespace
}  // namespace kvlab
