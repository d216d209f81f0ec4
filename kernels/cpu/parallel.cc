#include "kernels/cpu/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace kvlab {

int pool_threads() { return at::get_num_threads(); }

void run_parallel(int tasks, int threads, const std::function<void(int, int)>& task) {
  threads = std::min(threads, tasks);
  std::atomic<int> next{0};
  const auto work = [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread)
      for (int i = next++; i < tasks; i = next++) task(i, static_cast<int>(thread));
  };
  if (threads <= 1)
    work(0, 1);
  else
    at::parallel_for(0, threads, 1, work);
}

}  // namespace kvlab
