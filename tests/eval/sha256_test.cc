#include "eval/sha256.h"

#include <gmock/gmock.h>

#include <fstream>

#include "core/error.h"

namespace kvlab {
namespace {

TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Padding starts a new block from 56 bytes on: the lengths around both edges.
TEST(Sha256, DependsNeitherOnHowBytesArriveNorOnTheProcessor) {
  for (const size_t length : {0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000}) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += static_cast<char>(i * 131 + 7);
    for (const size_t step : {1, 3, 64, 100}) {
      Sha256 digest(Sha256::Rounds::portable);
      for (size_t at = 0; at < length; at += step) {
        const std::string part = text.substr(at, step);
        digest.update({reinterpret_cast<const u8*>(part.data()), part.size()});
      }
      EXPECT_EQ(digest.hex(), sha256_hex(text)) << length << " bytes in steps of " << step;
    }
  }
}

TEST(Sha256, OfAFileIsOfItsBytes) {
  const auto path = std::filesystem::path(testing::TempDir()) / "kvlab_sha256_test";
  std::ofstream(path, std::ios::binary) << "abc";
  EXPECT_EQ(digest_file(path).sha256, sha256_hex("abc"));
  EXPECT_EQ(digest_file(path).bytes, 3);
  std::filesystem::remove(path);
  EXPECT_THROW(digest_file(path), Error);
}

}  // namespace
}  // namespace kvlab
