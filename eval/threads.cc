#include "eval/threads.h"

#include <ATen/Parallel.h>

namespace kvlab {

int thread_count() { return at::get_num_threads(); }
void set_thread_count(int threads) { at::set_num_threads(threads); }

int useful_threads(int pool, int64_t weight_bytes) {
  constexpr int64_t kCoreCache = int64_t{2} << 20;
  return weight_bytes <= kCoreCache ? 1 : pool;
}

}  // namespace kvlab
