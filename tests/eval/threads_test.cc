#include "eval/threads.h"

#include <gtest/gtest.h>

namespace kvlab {
namespace {

TEST(UsefulThreads, AModelThatFitsACoresCacheGetsOne) {
  constexpr int64_t kCoreCache = 2097152;
  EXPECT_EQ(useful_threads(16, 0), 1);
  EXPECT_EQ(useful_threads(16, kCoreCache), 1);
  EXPECT_EQ(useful_threads(16, kCoreCache + 1), 16);
  EXPECT_EQ(useful_threads(1, int64_t{1} << 40), 1);
}

}  // namespace
}  // namespace kvlab
