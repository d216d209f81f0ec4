#include "eval/synthetic/hidden.h"

#include <gmock/gmock.h>

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using Texts = std::vector<std::string>;
using Slots = std::vector<size_t>;
using Ranges = std::vector<Range>;

TEST(Hide, PutsNeedlesBeforeTheirPieces) {
  const Hidden hidden = hide(Texts{"one", "two", "three"}, Texts{"A", "BB", "C"}, Slots{0, 2, 3});
  EXPECT_EQ(hidden.text, "A one two BB three C");
  EXPECT_THAT(hidden.spans, ElementsAre(Range{0, 1}, Range{10, 12}, Range{19, 20}));
}

TEST(Hide, KeepsTheOrderOfNeedlesInOneSlot) {
  EXPECT_EQ(hide(Texts{"one", "two"}, Texts{"A", "B"}, Slots{1, 1}).text, "one A B two");
  EXPECT_EQ(hide(Texts{}, Texts{"A", "B"}, Slots{0, 0}).text, "A B");
  EXPECT_EQ(hide(Texts{"one", "two"}, Texts{}, Slots{}).text, "one two");
}

TEST(TokenRanges, TakeEveryTokenThatSharesAByte) {
  // A first token of no bytes, then tokens of three bytes each.
  const Ranges tokens{{0, 0}, {0, 3}, {3, 6}, {6, 9}, {9, 12}};
  EXPECT_THAT(token_ranges(tokens, Ranges{{3, 6}}), ElementsAre(Range{2, 3}));
  EXPECT_THAT(token_ranges(tokens, Ranges{{2, 7}}), ElementsAre(Range{1, 4}));
  EXPECT_THAT(token_ranges(tokens, Ranges{{0, 1}, {11, 12}}),
              ElementsAre(Range{1, 2}, Range{4, 5}));
}

TEST(TokenRanges, WantAtLeastOneToken) {
  EXPECT_REFUSED("E_NO_TOKENIZER", "bytes 4..6",
                 token_ranges(Ranges{{0, 4}, {5, 5}, {6, 8}}, Ranges{{4, 6}}));
}

}  // namespace
}  // namespace kvlab
