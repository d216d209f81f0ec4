#pragma once
// Pieces of text with others put between them, and where those ended up.

#include <span>
#include <string>
#include <vector>

#include "core/types.h"

namespace kvlab {

struct Hidden {
  std::string text{};
  std::vector<Range> spans{};  // bytes of the needles in the text
};

/// All pieces joined by spaces, needle i before piece slots[i] (pieces.size(): at the end).  Slots
/// rise; needles of one slot keep their order.
Hidden hide(std::span<const std::string> pieces, std::span<const std::string> needles,
            std::span<const size_t> slots);

/// Of tokens that stand for `tokens[i]` bytes each: those that share a byte with a span, from the
/// first to the last of them.  E_NO_TOKENIZER: there are none.
std::vector<Range> token_ranges(std::span<const Range> tokens, std::span<const Range> spans);

}  // namespace kvlab
