#pragma once
// Rows to bytes, bytes to rows, bytes to bytes.

#include "core/engine.h"
#include "kernels/cpu/attend.h"

namespace kvlab {

/// E_NONFINITE: a finite number does not fit the codec's scales (its group reads as NaN).
void encode(CpuResources& resources, const EncodeCall& call);
void decode(CpuResources& resources, const DecodeCall& call);
void move(CpuResources& resources, const MoveCall& call);

}  // namespace kvlab
