// main of every test program: exit code 77 when nothing but skipped tests was run, so that ctest
// lists them as skipped instead of passed.

#include <gmock/gmock.h>

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  const testing::UnitTest& run = *testing::UnitTest::GetInstance();
  const bool all_skipped = run.skipped_test_count() > 0 && run.successful_test_count() == 0;
  return failed == 0 && all_skipped ? 77 : failed;
}
