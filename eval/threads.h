#pragma once
// LibTorch's thread pool, which everything on the CPU runs in.

#include <cstdint>

namespace kvlab {

int thread_count();
/// For the whole process; before the first parallel work.
void set_thread_count(int threads);

/// Of `pool` threads, how many a model with so many bytes of weights should use when nobody says:
/// one where the weights fit a core's own cache, because a product of microseconds costs more to
/// share than to do, and on a busy machine threads then mostly wait for each other.
int useful_threads(int pool, int64_t weight_bytes);

}  // namespace kvlab
