#pragma once
// This process and the machine it runs on.

#include <cstdint>
#include <string>
#include <string_view>

#include "core/json.h"

namespace kvlab {

/// Bytes of memory held now, and the most since the last reset (VmRSS and VmHWM; where the peak
/// cannot be reset, the peak since the start).
int64_t resident_bytes();
int64_t peak_resident_bytes();
void reset_peak_resident();

/// Bytes in use on the heap, mapped blocks included; 0 where the C library does not say.
int64_t heap_bytes();

/// {"cpu", "logical_cpus", "physical_cores", "affinity", "numa_nodes", "memory_bytes", "kernel",
/// "environment": {OMP_*, MKL_*, KVLAB_*, TORCH_*, CUDA_*}}.
Json describe_machine();

/// "2026-11-21T13:34:20Z".
std::string utc_now();

/// Seconds since some fixed moment, never going back.
double seconds_now();

}  // namespace kvlab
