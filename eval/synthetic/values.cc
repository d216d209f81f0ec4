#include "eval/synthetic/values.h"

#include <cstdio>
#include <string>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr std::string_view kConsonants = "bcdfghjklmnprstvz", kVowels = "aeiou";

std::string pseudo_word(SplitMix64& random) {
  std::string word;
  for (int syllable = 0; syllable < 3; ++syllable) {
    word += kConsonants[random.below(kConsonants.size())];
    word += kVowels[random.below(kVowels.size())];
  }
  return word;
}

std::string words(SplitMix64& random) {
  const std::string first = pseudo_word(random);
  return first + "-" + pseudo_word(random);
}

std::string uuid(SplitMix64& random) {
  const uint64_t high = (random.next() & ~uint64_t{0xf000}) | 0x4000u;              // version 4
  const uint64_t low = (random.next() & ~(uint64_t{3} << 62)) | uint64_t{1} << 63;  // variant 10
  char text[37];
  std::snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(high >> 32),
                static_cast<unsigned>(high >> 16 & 0xffff), static_cast<unsigned>(high & 0xffff),
                static_cast<unsigned>(low >> 48),
                static_cast<unsigned long long>(low & 0xffffffffffff));
  return text;
}

}  // namespace

ValueKind value_kind_named(std::string_view name) {
  for (const ValueKind kind : {ValueKind::words, ValueKind::numbers, ValueKind::uuids})
    if (name == name_of(kind)) return kind;
  fail("E_CONFIG", "`", printable(name), "` is no kind of value; allowed: words, numbers, uuids");
}

std::string_view name_of(ValueKind kind) {
  switch (kind) {
    case ValueKind::words:
      return "words";
    case ValueKind::numbers:
      return "numbers";
    case ValueKind::uuids:
      break;
  }
  return "uuids";
}

std::string_view singular(ValueKind kind) {
  const std::string_view name = name_of(kind);
  return name.substr(0, name.size() - 1);
}

std::string draw_value(SplitMix64& random, ValueKind kind) {
  switch (kind) {
    case ValueKind::words:
      return words(random);
    case ValueKind::numbers:
      return std::to_string(1000000 + random.below(9000000));
    case ValueKind::uuids:
      break;
  }
  return uuid(random);
}

std::string draw_letters(SplitMix64& random, char first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += static_cast<char>(first + random.below(26));
  return text;
}

}  // namespace kvlab
