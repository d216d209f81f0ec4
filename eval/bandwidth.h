#pragma once
// The yardstick of decode speed: how fast this process can read memory.

namespace kvlab {

/// 1e9 bytes per second that `threads` threads read from memory together: the best of several
/// passes over more than caches hold.  Measured at the first call for a number of threads, then
/// remembered.
double read_gb_s(int threads);

}  // namespace kvlab
