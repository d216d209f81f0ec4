#include "core/error.h"

#include <array>
#include <cstdint>

namespace kvlab {
namespace {

/// Length of the well-formed UTF-8 sequence `text` starts with (RFC 3629, table 3-7 of Unicode), or
/// 0 when it starts with none.
size_t utf8_length(std::string_view text) {
  struct Lead {
    uint8_t first, last, low, high;  // lead bytes [first, last], second byte in [low, high]
    uint8_t length;
  };
  static constexpr std::array<Lead, 8> kLeads{{{0xC2, 0xDF, 0x80, 0xBF, 2},
                                               {0xE0, 0xE0, 0xA0, 0xBF, 3},
                                               {0xE1, 0xEC, 0x80, 0xBF, 3},
                                               {0xED, 0xED, 0x80, 0x9F, 3},
                                               {0xEE, 0xEF, 0x80, 0xBF, 3},
                                               {0xF0, 0xF0, 0x90, 0xBF, 4},
                                               {0xF1, 0xF3, 0x80, 0xBF, 4},
                                               {0xF4, 0xF4, 0x80, 0x8F, 4}}};
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  for (const Lead& lead : kLeads) {
    if (byte(0) < lead.first || byte(0) > lead.last) continue;
    if (text.size() < lead.length || byte(1) < lead.low || byte(1) > lead.high) return 0;
    for (size_t i = 2; i < lead.length; ++i)
      if ((byte(i) & 0xC0) != 0x80) return 0;
    return lead.length;
  }
  return 0;
}

bool is_control(uint8_t byte) { return byte < 0x20 || byte == 0x7F; }

}  // namespace

std::string printable(std::string_view text, size_t most) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  size_t shown = 0;
  for (size_t at = 0; at < text.size(); ++shown) {
    if (shown == most) return out + "...";
    const size_t length = utf8_length(text.substr(at));
    const auto byte = static_cast<uint8_t>(text[at]);
    if (length == 0 || is_control(byte)) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      ++at;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

}  // namespace kvlab
