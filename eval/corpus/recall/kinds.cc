#include "eval/corpus/recall/kinds.h"

namespace kvlab::corpus {

std::span<const Kind> kinds() {
  static constexpr Kind kKinds[] = {
      {"needles", "facts in filler, each asked for once", needles},
      {"crowd", "facts among facts, a few asked for", crowd},
      {"lists", "several values or keys in one question", lists},
      {"lookups", "keys and values, asked for over and over", lookups},
      {"chains", "variables set to each other, all of a number", chains},
      {"assignments", "the same as Python, the number of a name", assignments},
      {"passages", "text that comes again", passages},
  };
  return kKinds;
}

}  // namespace kvlab::corpus
