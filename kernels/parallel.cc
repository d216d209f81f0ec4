#include "kernels/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <vector>

namespace kvlab {
namespace {

/// work(thread) for every thread in [0, threads), at once.
template <class Work>
void on_threads(int threads, const Work& work) {
#ifdef _OPENMP
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) work(static_cast<int>(thread));
  });
#else
  std::vector<std::future<void>> others;
  for (int thread = 1; thread < threads; ++thread)
    others.push_back(std::async(std::launch::async, work, thread));
  work(0);
  for (std::future<void>& other : others) other.get();
#endif
}

}  // namespace

int pool_threads() { return at::get_num_threads(); }

int worthwhile_threads(int threads, [[maybe_unused]] int64_t operations) {
#ifdef _OPENMP
  if (operations < int64_t{1} << 18) return 1;
#endif  // else a sanitizer is to see them
  return threads;
}

void run_parallel(int tasks, int threads, const std::function<void(int, int)>& task) {
  threads = std::min(threads, tasks);
  std::atomic<int> next{0};
  const auto work = [&](int thread) {
    for (int i = next++; i < tasks; i = next++) task(i, thread);
  };
  if (threads <= 1)
    work(0);
  else
    on_threads(threads, work);
}

void run_ranges(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& work) {
  const int parts = static_cast<int>(std::min<int64_t>(pool_threads(), (n + grain - 1) / grain));
  run_parallel(parts, parts, [&](int i, int) { work(n * i / parts, n * (i + 1) / parts); });
}

}  // namespace kvlab
