#pragma once
// Text files in.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace kvlab {

/// The offset of the first byte that begins no character of strict UTF-8 (no overlong forms, no
/// surrogates, at most U+10FFFF; a character cut off by the end counts), -1: there is none.
int64_t first_invalid_utf8(std::string_view text);

/// The file as it is, byte for byte.  E_FILE: it cannot be read.  E_FORMAT: it is not UTF-8, with
/// the offset of the first bad byte.
std::string read_text(const std::filesystem::path& path);

/// A file, pipe or device block by block.  E_FILE.
void read_blocks(const std::filesystem::path& path,
                 const std::function<void(std::string_view block)>& take);

}  // namespace kvlab
