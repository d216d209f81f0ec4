#include "eval/corpus/tokens.h"

#include "core/error.h"
#include "core/files.h"

namespace kvlab::corpus {

std::vector<uint16_t> read_tokens(const std::filesystem::path& path, int64_t vocabulary) {
  const MappedFile file(path);
  const std::span<const u8> bytes = file.bytes();
  KVLAB_REQUIRE(bytes.size() % 2 == 0, "E_FORMAT", path.string(), ": has ", bytes.size(),
                " bytes; a token takes two");
  std::vector<uint16_t> tokens(bytes.size() / 2);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8);
    KVLAB_REQUIRE(tokens[i] < vocabulary, "E_POSITION", path.string(), ": token ", i, " is ",
                  tokens[i], ", the vocabulary has ", vocabulary, " entries");
  }
  return tokens;
}

std::string token_bytes(std::span<const int32_t> tokens) {
  std::string bytes;
  bytes.reserve(2 * tokens.size());
  for (const int32_t token : tokens) {
    KVLAB_CHECK(token >= 0 && token <= 0xffff);
    bytes += static_cast<char>(token & 0xff);
    bytes += static_cast<char>(token >> 8);
  }
  return bytes;
}

}  // namespace kvlab::corpus
