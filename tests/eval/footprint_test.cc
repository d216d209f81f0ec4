#include "eval/footprint.h"

#include "tests/support/refusal.h"

namespace kvlab {
namespace {

constexpr int64_t kPage = 4096;
const std::vector<Bytes> kLayers = {{.payload = 100, .metadata = 10, .residual = 50},
                                    {.payload = 200, .metadata = 20, .residual = 0}};
const Bytes kTotal{
    .payload = 300, .metadata = 30, .residual = 50, .state = 7, .committed = 2 * kPage};

std::string verdict(const Bytes& total) {
  return test::error_of([&] { check_bytes(total, kLayers, kPage); });
}

TEST(CheckBytes, LayersAddUpToTheTotal) {
  EXPECT_EQ(verdict(kTotal), "no error");
  for (int64_t Bytes::* field : {&Bytes::payload, &Bytes::metadata, &Bytes::residual}) {
    for (const int64_t difference : {-1, 1}) {
      Bytes total = kTotal;
      total.*field += difference;
      EXPECT_REFUSED("E_BYTES_MISMATCH", "its 2 layers hold", check_bytes(total, kLayers, kPage));
    }
  }
}

TEST(CheckBytes, NothingIsInUseThatTheAllocatorDoesNotHold) {
  Bytes total = kTotal;
  total.committed = 0;
  EXPECT_EQ(verdict(total), "no error");  // rounding of one page
  total.state = kPage;
  EXPECT_REFUSED("E_BYTES_MISMATCH", "its allocator holds 0", check_bytes(total, kLayers, kPage));
}

}  // namespace
}  // namespace kvlab
