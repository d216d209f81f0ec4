#pragma once
// LibTorch's thread pool, which everything on the CPU runs in.

namespace kvlab {

int thread_count();
/// For the whole process; before the first parallel work.
void set_thread_count(int threads);

}  // namespace kvlab
