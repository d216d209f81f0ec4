#include "kernels/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace kvlab {
namespace {

TEST(Parallel, TasksOfOneCallRunAtTheSameTime) {
  if (pool_threads() < 2) GTEST_SKIP() << "the pool has one thread";
  std::atomic<int> here{0};
  std::atomic<bool> met{false};
  run_parallel(2, 2, [&](int, int) {
    ++here;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (here < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (here == 2) met = true;
  });
  EXPECT_TRUE(met) << "each waited 30 s for the other";
}

TEST(Parallel, EveryTaskRunsOnceOnAThreadBelowTheLimit) {
  std::vector<std::atomic<int>> runs(1000);
  std::atomic<bool> is_below{true};
  run_parallel(1000, 3, [&](int task, int thread) {
    ++runs[static_cast<size_t>(task)];
    if (thread < 0 || thread >= 3) is_below = false;
  });
  for (const std::atomic<int>& n : runs) EXPECT_EQ(n, 1);
  EXPECT_TRUE(is_below);
}

TEST(Parallel, RangesMakeUpTheWhole) {
  for (const int64_t n : {0, 1, 2, 7, 1000})
    for (const int64_t grain : {1, 3, 400, 5000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
      run_ranges(n, grain, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (const std::atomic<int>& times : seen) EXPECT_EQ(times, 1);
    }
}

TEST(Parallel, AnExceptionOfATaskReachesTheCaller) {
  for (const int thrower : {0, 7})
    EXPECT_THROW(run_parallel(8, 2,
                              [&](int task, int) {
                                if (task == thrower) throw std::runtime_error("task");
                              }),
                 std::runtime_error);
}

}  // namespace
}  // namespace kvlab
