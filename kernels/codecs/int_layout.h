#pragma once
// Where B-bit codes lie in a row; the format is written down in kernels/codecs/int.h.

#include "kernels/codec.h"

namespace kvlab::inline KVLAB_TARGET {

template <int B>
struct Codes {
  static constexpr int kBlock = 32;  // features
  static constexpr int kBlockBytes = kBlock * B / 8;
  static constexpr int kMask = (1 << B) - 1;

  KVLAB_HD static int blocks(int width) { return (width + kBlock - 1) / kBlock; }
  KVLAB_HD static int features(int width, int block) {
    return width - block * kBlock < kBlock ? width - block * kBlock : kBlock;
  }

  /// Features [c, c + W) of a row; they lie in one block.
  template <int W>
  KVLAB_HD static F<W> load(const u8* row, int width, int c) {
    const int b = c / kBlock, run = features(width, b) * B / 8;
    const int s = c % kBlock / run, j = c % kBlock - s * run;
    const u8* block = row + b * kBlockBytes;
    if (j + W <= run) return load_bits<W>(block + j, s * B, kMask);
    if constexpr (W == 16) {
      return concat<16>(load<8>(row, width, c), load<8>(row, width, c + 8));
    } else {
      float v[W];
      for (int i = 0; i < W; ++i) {
        const int at = c % kBlock + i;
        v[i] = static_cast<float>(block[at % run] >> (at / run * B) & kMask);
      }
      return load_f32<W>(v);
    }
  }

  /// codes[i]: the code of feature i of a block.
  KVLAB_HD static void store(u8* row, int width, int block, const u8* codes) {
    u8* to = row + block * kBlockBytes;
    const int run = features(width, block) * B / 8;
    for (int j = 0; j < run; ++j) {
      int byte = codes[j];
      for (int s = 1; s < 8 / B; ++s) byte |= codes[j + s * run] << (s * B);
      to[j] = static_cast<u8>(byte);
    }
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
