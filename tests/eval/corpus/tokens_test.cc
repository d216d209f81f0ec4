#include "eval/corpus/tokens.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab::corpus {
namespace {

TEST(Tokens, AreTwoBytesTheLowOneFirst) {
  const test::Scratch scratch;
  const std::vector<int32_t> tokens{0, 1, 0x1234, 0xffff};
  const std::string bytes = token_bytes(tokens);
  EXPECT_EQ(bytes, std::string("\x00\x00\x01\x00\x34\x12\xff\xff", 8));
  write_file(scratch / "t.bin", bytes);
  EXPECT_EQ(read_tokens(scratch / "t.bin", 65536), (std::vector<uint16_t>{0, 1, 0x1234, 0xffff}));
}

TEST(Tokens, RefusesHalvesAndStrangers) {
  const test::Scratch scratch;
  write_file(scratch / "odd.bin", std::string(3, '\0'));
  EXPECT_REFUSED("E_FORMAT", "3 bytes", read_tokens(scratch / "odd.bin", 10));
  write_file(scratch / "big.bin", std::string("\x00\x00\x0a\x00", 4));
  EXPECT_REFUSED("E_POSITION", "token 1 is 10, the vocabulary has 10",
                 read_tokens(scratch / "big.bin", 10));
  EXPECT_REFUSED("E_FILE", "none.bin", read_tokens(scratch / "none.bin", 10));
}

}  // namespace
}  // namespace kvlab::corpus
