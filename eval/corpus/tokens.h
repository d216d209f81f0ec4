#pragma once
// The token files of a corpus: uint16, little-endian.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace kvlab::corpus {

/// E_FORMAT: an odd number of bytes.  E_POSITION: a token outside the vocabulary, by its place.
/// E_FILE.
std::vector<uint16_t> read_tokens(const std::filesystem::path& path, int64_t vocabulary);
/// The bytes of such a file.
std::string token_bytes(std::span<const int32_t> tokens);

}  // namespace kvlab::corpus
