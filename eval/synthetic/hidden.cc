#include "eval/synthetic/hidden.h"

#include "core/error.h"

namespace kvlab {

Hidden hide(std::span<const std::string> pieces, std::span<const std::string> needles,
            std::span<const size_t> slots) {
  KVLAB_CHECK(needles.size() == slots.size());
  Hidden hidden;
  const auto add = [&](const std::string& piece) {
    if (!hidden.text.empty()) hidden.text += ' ';
    hidden.text += piece;
  };
  size_t next = 0;
  for (size_t at = 0; at <= pieces.size(); ++at) {
    for (; next < needles.size() && slots[next] == at; ++next) {
      add(needles[next]);
      const auto end = static_cast<int64_t>(hidden.text.size());
      hidden.spans.push_back({end - static_cast<int64_t>(needles[next].size()), end});
    }
    if (at < pieces.size()) add(pieces[at]);
  }
  KVLAB_CHECK(next == needles.size());
  return hidden;
}

std::vector<Range> token_ranges(std::span<const Range> tokens, std::span<const Range> spans) {
  std::vector<Range> ranges;
  for (const Range& span : spans) {
    Range range{-1, -1};
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].last <= span.first || tokens[i].first >= span.last) continue;
      if (tokens[i].size() == 0) continue;
      if (range.first < 0) range.first = static_cast<int64_t>(i);
      range.last = static_cast<int64_t>(i) + 1;
    }
    KVLAB_REQUIRE(range.first >= 0, "E_NO_TOKENIZER",
                  "the model's tokenizer makes no token of bytes ", span.first, "..", span.last,
                  " of a text; it cannot read this task");
    ranges.push_back(range);
  }
  return ranges;
}

}  // namespace kvlab
