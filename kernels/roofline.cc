#include "kernels/roofline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>

#include "kernels/instruction_sets.h"
#include "kernels/parallel.h"
#include "kernels/vec.h"

namespace kvlab {

#if KVLAB_HAS_X86_KERNELS
namespace avx2 {
extern const RooflineLoops kRooflineLoops;
}
namespace avx512 {
extern const RooflineLoops kRooflineLoops;
}
namespace avx512bf16 {
extern const RooflineLoops kRooflineLoops;
}
#endif
inline namespace scalar {
extern const RooflineLoops kRooflineLoops;
}

const RooflineLoops& roofline_loops([[maybe_unused]] Isa isa) {
#if KVLAB_HAS_X86_KERNELS
  if (isa == Isa::avx512bf16) return avx512bf16::kRooflineLoops;
  if (isa == Isa::avx512) return avx512::kRooflineLoops;
  if (isa == Isa::avx2) return avx2::kRooflineLoops;
#endif
  return scalar::kRooflineLoops;
}

namespace {

template <class Work>
double seconds_of(int threads, const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  run_parallel(threads, threads, [&](int task, int) { work(task); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::atomic<uint64_t> g_sink{0};  // results that must not be optimised away

}  // namespace

double read_bandwidth(Isa isa, const u8* data, int64_t bytes, int threads) {
  const RooflineLoops& loops = roofline_loops(isa);
  const int64_t share = bytes / threads;
  double least = std::numeric_limits<double>::infinity();
  for (const auto read : loops.reads)
    least = std::min(least,
                     seconds_of(threads, [&](int i) { g_sink += read(data + i * share, share); }));
  return static_cast<double>(share * threads) / least;
}

double peak_multiply_adds(Isa isa, int threads) {
  const RooflineLoops& loops = roofline_loops(isa);
  std::atomic<int64_t> all{0};
  const double seconds = seconds_of(threads, [&](int) {
    int64_t done = 0;
    g_sink += static_cast<uint64_t>(std::max(0.0f, loops.multiply_adds(int64_t{1} << 31, &done)));
    all += done;
  });
  return static_cast<double>(all) / seconds;
}

}  // namespace kvlab
