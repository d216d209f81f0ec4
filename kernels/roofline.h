#pragma once
// What this machine can do at best, measured: the yardstick of every speed.

#include <cstdint>
#include <string>

#include "kernels/codec_kernels.h"

namespace kvlab {

/// Loops that do one thing only; one table per instruction set.
struct RooflineLoops {
  /// Read every byte once; return something that depends on them.  Which way is the fastest differs
  /// from machine to machine: in order, as memory expects it, or in several places asked for ahead.
  uint64_t (*reads[2])(const u8* data, int64_t bytes);
  /// Independent multiply-adds in registers: at least `count`; returns something that depends on
  /// them.  The number done is written to `done`.
  float (*multiply_adds)(int64_t count, int64_t* done);
  const char* multiply_adds_how;  // the widest there is for numbers of 16 or 32 bits
};
const RooflineLoops& roofline_loops(Isa isa);

/// Bytes per second of `threads` threads reading memory side by side, each way once: the better.
double read_bandwidth(Isa isa, const u8* data, int64_t bytes, int threads);

/// Multiply-adds per second of `threads` threads.
double peak_multiply_adds(Isa isa, int threads);

}  // namespace kvlab
