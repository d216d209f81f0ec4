#include "eval/text.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr size_t kBlockBytes = 1 << 20;

/// Bytes of the character that starts with `lead`, and the range its second byte must lie in: the
/// narrowed ranges shut out overlong forms, surrogates and what lies beyond U+10FFFF.
struct Sequence {
  int bytes = 0;  // 0: no character starts so
  unsigned char second_least = 0x80, second_most = 0xBF;
};
Sequence sequence_of(unsigned char lead) {
  if (lead < 0x80) return {1};
  if (lead < 0xC2) return {0};
  if (lead < 0xE0) return {2};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

/// Bytes of the character at the start of `text`; 0: there is none.
size_t character_at(std::string_view text) {
  const Sequence s = sequence_of(static_cast<unsigned char>(text[0]));
  if (s.bytes <= 1) return static_cast<size_t>(s.bytes);
  const size_t bytes = static_cast<size_t>(s.bytes);
  if (text.size() < bytes) return 0;
  const auto second = static_cast<unsigned char>(text[1]);
  if (second < s.second_least || second > s.second_most) return 0;
  for (size_t i = 2; i < bytes; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 0;
  return bytes;
}

std::string hex(unsigned char byte) {
  std::array<char, 5> text{};
  std::snprintf(text.data(), text.size(), "0x%02x", byte);
  return text.data();
}

}  // namespace

int64_t first_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t bytes = character_at(text.substr(at));
    if (bytes == 0) return static_cast<int64_t>(at);
    at += bytes;
  }
  return -1;
}

void read_blocks(const std::filesystem::path& path,
                 const std::function<void(std::string_view)>& take) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  KVLAB_REQUIRE(file, "E_FILE", printable(path.native(), 400),
                ": cannot be opened: ", std::strerror(errno));
  std::string block(kBlockBytes, '\0');
  while (const size_t bytes = std::fread(block.data(), 1, block.size(), file.get()))
    take(std::string_view(block).substr(0, bytes));
  KVLAB_REQUIRE(std::ferror(file.get()) == 0, "E_FILE", printable(path.native(), 400),
                ": cannot be read: ", std::strerror(errno));
}

std::string read_text(const std::filesystem::path& path) {
  std::string text;
  read_blocks(path, [&text](std::string_view block) { text += block; });
  const int64_t bad = first_invalid_utf8(text);
  KVLAB_REQUIRE(bad < 0, "E_FORMAT", printable(path.native(), 400), ": is not UTF-8: byte ", bad,
                " (", hex(static_cast<unsigned char>(text[static_cast<size_t>(bad)])),
                ") begins no character; convert the file to UTF-8 first");
  return text;
}

}  // namespace kvlab
