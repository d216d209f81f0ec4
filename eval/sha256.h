#pragma once
// SHA-256 (FIPS 180-4): the ids of cells and the digests of models and data in records.

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "core/types.h"

namespace kvlab {

class Sha256 {
 public:
  /// fastest: the processor's SHA instructions where it has them.
  enum class Rounds : u8 { fastest, portable };
  explicit Sha256(Rounds rounds = Rounds::fastest) : rounds_(rounds) {}
  void update(std::span<const u8> bytes);
  /// 64 lower-case hex digits of everything so far.  Ends the digest: no update afterwards.
  std::string hex();

 private:
  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<u8, 64> block_{};
  size_t filled_ = 0;
  uint64_t bytes_ = 0;
  Rounds rounds_;
};

std::string sha256_hex(std::string_view text);

struct FileDigest {
  std::string sha256{};
  int64_t bytes = 0;
};

/// Of a whole file; E_FILE when it cannot be read.
FileDigest digest_file(const std::filesystem::path& path);

}  // namespace kvlab
