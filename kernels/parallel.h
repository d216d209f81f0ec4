#pragma once
// Threads: LibTorch's own pool.

#include <cstdint>
#include <functional>

namespace kvlab {

/// Threads of the pool.
int pool_threads();

/// Of `threads`, how many so many multiply-adds (or numbers moved) are worth waking: one where they
/// take no longer than meeting does.
int worthwhile_threads(int threads, int64_t operations);

/// Calls task(i, thread) for every i in [0, tasks), on up to `threads` threads of the pool; each
/// takes the next one when it is done.  `thread` is below `threads`.  Rethrows the first exception.
void run_parallel(int tasks, int threads, const std::function<void(int task, int thread)>& task);

/// Calls work(first, last) for parts that make up [0, n), on the pool; a part is worth a thread
/// when it has `grain` numbers.
void run_ranges(int64_t n, int64_t grain,
                const std::function<void(int64_t first, int64_t last)>& work);

}  // namespace kvlab
