#pragma once
// Words, numbers and names that texts are made of, drawn so that they stand in no language model's
// memory and in no list that would have to be shipped.

#include <set>
#include <string>
#include <string_view>

#include "core/types.h"
#include "eval/random.h"

namespace kvlab {

/// words: two pseudo-words joined by "-", each of three syllables, a consonant of
/// bcdfghjklmnprstvz and then a vowel of aeiou.  numbers: 7 digits, 1000000 + below(9000000).
/// uuids: two draws, the high half first, with the bits of version 4 set.
enum class ValueKind : u8 { words, numbers, uuids };
ValueKind value_kind_named(std::string_view name);  // "words"
std::string_view name_of(ValueKind kind);           // "words"
std::string_view singular(ValueKind kind);          // "word"

std::string draw_value(SplitMix64& random, ValueKind kind);
/// `count` letters of the 26 from `first` on ('a' or 'A').
std::string draw_letters(SplitMix64& random, char first, int count);

/// Draws until a text is new: an answer that stands for two questions would be no answer.
class Distinct {
 public:
  template <class Draw>
  std::string operator()(Draw&& draw) {
    for (;;) {
      if (const auto [text, fresh] = seen_.insert(draw()); fresh) return *text;
    }
  }
  std::string value(SplitMix64& random, ValueKind kind) {
    return (*this)([&] { return draw_value(random, kind); });
  }
  std::string letters(SplitMix64& random, char first, int count) {
    return (*this)([&] { return draw_letters(random, first, count); });
  }

 private:
  std::set<std::string> seen_{};
};

}  // namespace kvlab
