#pragma once
// Threads: LibTorch's own pool.

#include <functional>

namespace kvlab {

/// Threads of the pool.
int pool_threads();

/// Calls task(i, thread) for every i in [0, tasks), on up to `threads` threads of the pool; each
/// takes the next one when it is done.  `thread` is below `threads`.  Rethrows the first exception.
void run_parallel(int tasks, int threads, const std::function<void(int task, int thread)>& task);

}  // namespace kvlab
