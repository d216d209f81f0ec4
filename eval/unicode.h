#pragma once
// Text as code points, with the words of Python's `str`: what metrics of texts are defined on.

#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// Of UTF-8; a byte that begins no character is U+FFFD.
std::u32string code_points(std::string_view utf8);
std::string utf8(std::u32string_view text);

/// str.lower() for ASCII, Latin-1, Latin Extended-A and Additional, Vietnamese and pinyin letters,
/// Greek and Coptic, Cyrillic, Armenian and fullwidth Latin, a sigma that ends a word included.
/// Other scripts with two cases (Georgian, Cherokee, Deseret, polytonic Greek, the phonetic letters
/// of Latin Extended-B, ...) stay as they are.
std::u32string lower(std::u32string_view text);

/// str.isspace(), complete.
bool is_space(char32_t c);
/// \w of Python's `re` in ASCII; beyond it every code point that lies in no block of punctuation
/// and symbols, so that combining marks count as well.
bool is_word(char32_t c);
/// string.punctuation: the 32 of ASCII.
bool is_ascii_punctuation(char32_t c);

/// str.split(): what stands between runs of white space.
std::vector<std::u32string> words(std::u32string_view text);

}  // namespace kvlab
