#pragma once
// Recall documents in tokens, of a length.

#include <cstdint>

#include "eval/corpus/recall/kinds.h"
#include "eval/tokenizer.h"

namespace kvlab::corpus {

/// The tokens of a draft, nothing added, and 1 for each that shares a byte with an answer.
Marked marked(Tokenizer& tokenizer, const Draft& draft);

/// The document of `kind` that comes from `random`, with as many tokens as it can be made to have,
/// `length` at most: the size it is asked for is corrected by what came out, until nine tenths are
/// filled or, once one fits, kTries are over.  E_CONFIG: the smallest of this kind is longer.
inline constexpr int kTries = 8;
Marked fitted(Tokenizer& tokenizer, const Source& source, const Kind& kind, SplitMix64 random,
              int64_t length);

}  // namespace kvlab::corpus
