#pragma once
// The offline step: weights and a calibration text in, factors per layer out.

#include "core/method.h"

namespace kvlab::slim {

/// header: {"store": dtype, "layers": [{"mode", "width", "side", "gain", "condition", ...}],
/// "table", "notes"}.  Refusals: README, "Refusals".
Artifact prepare(const Calibration& calibration);

}  // namespace kvlab::slim
