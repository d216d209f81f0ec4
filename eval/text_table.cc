#include "eval/text_table.h"

#include <algorithm>

namespace kvlab {
namespace {

/// Characters of UTF-8 text, as wide as they are shown.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string padded(const std::string& text, size_t to, bool left) {
  const std::string gap(to - width(text), ' ');
  return left ? text + gap : gap + text;
}

}  // namespace

std::string TextTable::markdown() const {
  std::vector<size_t> widths(rows_[0].size(), 3);
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width(row[c]));
  }
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < widths.size(); ++c) {
      text += "| " + padded(rows_[r][c], widths[c], c == 0) + " ";
    }
    text += "|\n";
    if (r > 0) continue;
    for (size_t c = 0; c < widths.size(); ++c) {
      text += c == 0 ? "|" + std::string(widths[c] + 2, '-')
                     : "|" + std::string(widths[c] + 1, '-') + ":";
    }
    text += "|\n";
  }
  return text;
}

}  // namespace kvlab
