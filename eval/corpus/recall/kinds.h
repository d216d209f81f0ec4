#pragma once
// The kinds of recall document.  Each is a function of a random stream and of a size in tokens that
// it meets roughly; eval/corpus/recall/fit.h meets it exactly.

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "eval/corpus/recall/draft.h"
#include "eval/corpus/recall/source.h"
#include "eval/random.h"

namespace kvlab::corpus {

using Make = Draft (*)(const Source& source, SplitMix64& random, int64_t tokens);

struct Kind {
  std::string_view name, summary;
  Make make;
};

/// Facts hidden in filler, each asked for once, in the words of the needle tasks or other ones.
Draft needles(const Source& source, SplitMix64& random, int64_t tokens);
/// Facts among nothing but facts, few of them asked for.
Draft crowd(const Source& source, SplitMix64& random, int64_t tokens);
/// Several values of a key, or several keys, in one question.
Draft lists(const Source& source, SplitMix64& random, int64_t tokens);
/// Keys with values as lines of a file, JSON, Python; asked for many times in any order.
Draft lookups(const Source& source, SplitMix64& random, int64_t tokens);
/// Variables set to each other, one to five of a chain, several chains mixed.
Draft chains(const Source& source, SplitMix64& random, int64_t tokens);
/// The same as Python: which number a name has come to stand for.
Draft assignments(const Source& source, SplitMix64& random, int64_t tokens);
/// Words or text, and later the same again.
Draft passages(const Source& source, SplitMix64& random, int64_t tokens);

/// All of the above, by name.
std::span<const Kind> kinds();

/// Random tokens [1, vocabulary), stretches of which come again: exactly `tokens` of them.  Marked
/// where one or two tokens before have had one continuation so far, and this is it.
Marked repeats(SplitMix64& random, int64_t tokens, int64_t vocabulary);

}  // namespace kvlab::corpus
