#include "kernels/train/train_loops.h"

#include "kernels/instruction_sets.h"

namespace kvlab {

#define KVLAB_LOOPS_OF(target)         \
  namespace target {                   \
  extern const TrainLoops kTrainLoops; \
  }
#if KVLAB_HAS_X86_KERNELS
KVLAB_LOOPS_OF(avx2)
KVLAB_LOOPS_OF(avx512)
KVLAB_LOOPS_OF(avx512bf16)
#endif
inline namespace scalar {
extern const TrainLoops kTrainLoops;
}

const TrainLoops& train_loops([[maybe_unused]] Isa isa) {
#if KVLAB_HAS_X86_KERNELS
  if (isa == Isa::avx512bf16) return avx512bf16::kTrainLoops;
  if (isa == Isa::avx512) return avx512::kTrainLoops;
  if (isa == Isa::avx2) return avx2::kTrainLoops;
#endif
  return scalar::kTrainLoops;
}

int64_t train_attention_bytes(int64_t tokens, int64_t head_dim) {
  constexpr int64_t kTile = 64;
  const int64_t all = (tokens + kTile - 1) / kTile * kTile;
  const int64_t forward = all * head_dim * (2 + 2 + 2) + kTile * head_dim * 8 + kTile * all * 6;
  const int64_t backward =
      all * head_dim * (2 + 2 + 2 + 2 + 4 + 4) + kTile * head_dim * 16 + kTile * kTile * 16;
  return (forward > backward ? forward : backward) + 64 * 16;
}

}  // namespace kvlab
