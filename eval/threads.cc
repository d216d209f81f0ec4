#include "eval/threads.h"

#include <ATen/Parallel.h>

namespace kvlab {

int thread_count() { return at::get_num_threads(); }
void set_thread_count(int threads) { at::set_num_threads(threads); }

}  // namespace kvlab
