#include "eval/text_table.h"

#include <algorithm>
#include <array>
#include <string_view>

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

/// Numbers, with a sign or unit perhaps, bold perhaps, or none where there is nothing to say.
bool looks_like_a_number(std::string_view text) {
  if (text.starts_with("**")) text = text.substr(2, text.size() - 4);
  constexpr std::array<std::string_view, 3> kOthers = {"", "–", "none"};
  const bool is_other = std::find(kOthers.begin(), kOthers.end(), text) != kOthers.end();
  return is_other || text.starts_with("≤") || text.find_first_of("0123456789") <= 1;
}

bool is_numeric(const std::vector<std::vector<std::string>>& rows, size_t column) {
  return std::all_of(rows.begin() + 1, rows.end(),
                     [&](const auto& row) { return looks_like_a_number(row[column]); });
}

}  // namespace

std::string TextTable::markdown() const {
  std::vector<size_t> widths(rows_[0].size(), 3);
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width(row[c]));
  }
  std::vector<bool> left(widths.size());
  for (size_t c = 0; c < widths.size(); ++c) left[c] = c == 0 || !is_numeric(rows_, c);
  std::string text;
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < widths.size(); ++c) {
      text += "| " + padded(rows_[r][c], widths[c], left[c]) + " ";
    }
    text += "|\n";
    if (r > 0) continue;
    for (size_t c = 0; c < widths.size(); ++c) {
      text += left[c] ? "|" + std::string(widths[c] + 2, '-')
                      : "|" + std::string(widths[c] + 1, '-') + ":";
    }
    text += "|\n";
  }
  return text;
}

}  // namespace kvlab
