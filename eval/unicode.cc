#include "eval/unicode.h"

#include <algorithm>
#include <array>

#include "eval/text.h"

namespace kvlab {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

size_t length_of(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

char32_t decoded(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead;
  char32_t c = lead & (0x7Fu >> character.size());
  for (const char byte : character.substr(1))
    c = c << 6 | (static_cast<unsigned char>(byte) & 0x3Fu);
  return c;
}

/// Capitals first, first + step, .. last and how far their small letters lie from them.
struct Capitals {
  char32_t first, last;
  char32_t step;
  int distance;
};
constexpr Capitals kCapitals[] = {
    {0x41, 0x5A, 1, 32},         // ASCII
    {0xC0, 0xD6, 1, 32},         // Latin-1
    {0xD8, 0xDE, 1, 32},         //
    {0x100, 0x12E, 2, 1},        // Latin Extended-A; U+0130 becomes two code points
    {0x132, 0x136, 2, 1},        //
    {0x139, 0x147, 2, 1},        //
    {0x14A, 0x176, 2, 1},        //
    {0x178, 0x178, 1, -121},     //
    {0x179, 0x17D, 2, 1},        //
    {0x1A0, 0x1A0, 1, 1},        // Vietnamese
    {0x1AF, 0x1AF, 1, 1},        //
    {0x1CD, 0x1DB, 2, 1},        // pinyin
    {0x218, 0x21A, 2, 1},        // Romanian
    {0x386, 0x386, 1, 38},       // Greek and Coptic
    {0x388, 0x38A, 1, 37},       //
    {0x38C, 0x38C, 1, 64},       //
    {0x38E, 0x38F, 1, 63},       //
    {0x391, 0x3A1, 1, 32},       //
    {0x3A3, 0x3AB, 1, 32},       //
    {0x3E2, 0x3EE, 2, 1},        //
    {0x400, 0x40F, 1, 80},       // Cyrillic
    {0x410, 0x42F, 1, 32},       //
    {0x460, 0x480, 2, 1},        //
    {0x48A, 0x4BE, 2, 1},        //
    {0x4C0, 0x4C0, 1, 15},       //
    {0x4C1, 0x4CD, 2, 1},        //
    {0x4D0, 0x52E, 2, 1},        //
    {0x531, 0x556, 1, 48},       // Armenian
    {0x1E00, 0x1E94, 2, 1},      // Latin Extended Additional
    {0x1E9E, 0x1E9E, 1, -7615},  //
    {0x1EA0, 0x1EFE, 2, 1},      //
    {0xFF21, 0xFF3A, 1, 32},     // fullwidth
};

/// The capitals that `c` is one of (`small`: that `c` is the small letter of); null: none.
const Capitals* capitals_of(char32_t c, bool small = false) {
  for (const Capitals& run : kCapitals) {
    const char32_t at = c - static_cast<char32_t>(small ? run.distance : 0);
    if (at >= run.first && at <= run.last && (at - run.first) % run.step == 0) return &run;
  }
  return nullptr;
}

bool is_cased(char32_t c) { return capitals_of(c) != nullptr || capitals_of(c, true) != nullptr; }

/// What Unicode looks through when it asks whether a sigma ends a word.
bool is_case_ignorable(char32_t c) {
  constexpr std::u32string_view kMarks = U"'.:^`\u00A8\u00AD\u00AF\u00B4\u00B7\u00B8\u2019";
  return kMarks.find(c) != kMarks.npos || (c >= 0x300 && c <= 0x36F);
}

bool ends_word(std::u32string_view text, size_t sigma) {
  const auto beside = [&](auto begin, auto end) {
    const auto found = std::find_if_not(begin, end, is_case_ignorable);
    return found != end && is_cased(*found);
  };
  const std::u32string_view before = text.substr(0, sigma), after = text.substr(sigma + 1);
  return beside(before.rbegin(), before.rend()) && !beside(after.begin(), after.end());
}

struct Block {
  char32_t first, last;
};
/// Beyond ASCII: punctuation, symbols, spaces and controls.
constexpr Block kNoWords[] = {
    {0x80, 0xA9},     {0xAB, 0xB1},     {0xB4, 0xB4},     {0xB6, 0xB8},     {0xBB, 0xBB},
    {0xBF, 0xBF},     {0xD7, 0xD7},     {0xF7, 0xF7},     {0x37E, 0x37E},   {0x387, 0x387},
    {0x55A, 0x55F},   {0x589, 0x58A},   {0x5BE, 0x5BE},   {0x60C, 0x60D},   {0x61B, 0x61F},
    {0x66A, 0x66D},   {0x964, 0x965},   {0x1680, 0x1680}, {0x2000, 0x206F}, {0x20A0, 0x20CF},
    {0x2190, 0x245F}, {0x2500, 0x2BFF}, {0x3000, 0x3004}, {0x3008, 0x3020}, {0x3030, 0x3030},
    {0x303D, 0x303F}, {0x30FB, 0x30FB}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE6F}, {0xFF01, 0xFF0F},
    {0xFF1A, 0xFF20}, {0xFF3B, 0xFF40}, {0xFF5B, 0xFF65}, {0xFFE0, 0xFFFF}, {0x1F000, 0x1FAFF}};

}  // namespace

std::u32string code_points(std::string_view utf8) {
  std::u32string text;
  text.reserve(utf8.size());
  while (!utf8.empty()) {
    const std::string_view one = utf8.substr(0, length_of(static_cast<unsigned char>(utf8[0])));
    const bool valid = first_invalid_utf8(one) < 0;
    text.push_back(valid ? decoded(one) : kReplacement);
    utf8.remove_prefix(valid ? one.size() : 1);
  }
  return text;
}

std::string utf8(std::u32string_view text) {
  std::string bytes;
  for (const char32_t c : text) {
    const auto tail = [&](int shift) { bytes += static_cast<char>(0x80 | (c >> shift & 0x3F)); };
    if (c < 0x80) {
      bytes += static_cast<char>(c);
    } else if (c < 0x800) {
      bytes += static_cast<char>(0xC0 | c >> 6);
      tail(0);
    } else if (c < 0x10000) {
      bytes += static_cast<char>(0xE0 | c >> 12);
      tail(6), tail(0);
    } else {
      bytes += static_cast<char>(0xF0 | c >> 18);
      tail(12), tail(6), tail(0);
    }
  }
  return bytes;
}

std::u32string lower(std::u32string_view text) {
  std::u32string small;
  small.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == 0x130) {
      small += U"i\u0307";
    } else if (c == 0x3A3 && ends_word(text, i)) {
      small += U'\u03C2';
    } else {
      const Capitals* run = capitals_of(c);
      small += run == nullptr ? c : c + static_cast<char32_t>(run->distance);
    }
  }
  return small;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  if (c < 0x80)
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  return std::ranges::none_of(kNoWords,
                              [c](const Block& b) { return c >= b.first && c <= b.last; });
}

bool is_ascii_punctuation(char32_t c) { return c > ' ' && c < 0x7F && (c == '_' || !is_word(c)); }

std::vector<std::u32string> words(std::u32string_view text) {
  std::vector<std::u32string> all;
  bool inside = false;
  for (const char32_t c : text) {
    if (is_space(c)) {
      inside = false;
      continue;
    }
    if (!inside) all.emplace_back();
    all.back() += c;
    inside = true;
  }
  return all;
}

}  // namespace kvlab
