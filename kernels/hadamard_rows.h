#pragma once
// kernels/hadamard.h on one float32 row.

#include "kernels/hadamard.h"
#include "kernels/vec.h"

namespace kvlab::inline KVLAB_TARGET {

/// y = H_p y, p a power of two from 16 on.
KVLAB_HD void hadamard_powers(float* y, int p) {
  constexpr int W = 8;
  for (int h = 1; h < W; h *= 2)
    for (int i = 0; i < p; i += 2 * h)
      for (int j = i; j < i + h; ++j) {
        const float a = y[j], b = y[j + h];
        y[j] = a + b;
        y[j + h] = a - b;
      }
  for (int h = W; h < p; h *= 2)
    for (int i = 0; i < p; i += 2 * h)
      for (int j = i; j < i + h; j += W) {
        const F<W> a = load_f32<W>(y + j), b = load_f32<W>(y + j + h);
        store_f32<W>(y + j, a + b);
        store_f32<W>(y + j + h, a - b);
      }
  const F<W> scale = splat<W>(1.0f / __builtin_sqrtf(static_cast<float>(p)));
  for (int j = 0; j < p; j += W) store_f32<W>(y + j, load_f32<W>(y + j) * scale);
}

inline void hadamard_forth(float* x, int width) {
  const int p = hadamard_block(width), blocks = width / p;
  if (blocks == 1) return hadamard_powers(x, p);
  float y[kMaxHadamardWidth];
  for (int b = 0; b < blocks; ++b) {
    for (int i = 0; i < p; ++i) y[b * p + i] = x[b + i * blocks];
    hadamard_powers(y + b * p, p);
  }
  __builtin_memcpy(x, y, sizeof(float) * width);
}

inline void hadamard_back(float* y, int width) {
  const int p = hadamard_block(width), blocks = width / p;
  if (blocks == 1) return hadamard_powers(y, p);
  float x[kMaxHadamardWidth];
  for (int b = 0; b < blocks; ++b) {
    hadamard_powers(y + b * p, p);
    for (int i = 0; i < p; ++i) x[b + i * blocks] = y[b * p + i];
  }
  __builtin_memcpy(y, x, sizeof(float) * width);
}
}  // namespace kvlab::inline KVLAB_TARGET
