#pragma once
// bfloat16 by the CPU's own instruction where it has one: a seventh of the work of rounding with
// integers.  It flushes subnormals, which no gradient misses.

#include "kernels/vec.h"

#define KVLAB_ALWAYS_INLINE __attribute__((always_inline))

namespace kvlab::inline KVLAB_TARGET {

template <int N>
KVLAB_HD void store_rounded(uint16_t* p, F<N> v) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512BF16
  if constexpr (N == 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)v));
    return;
  }
#endif
  store_bf16<N>(p, v);
}

}  // namespace kvlab::inline KVLAB_TARGET
