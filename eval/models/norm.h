#pragma once
// RMS norm of rows.

#include "core/types.h"
#include "eval/models/network_config.h"

namespace kvlab {

/// out[r, c] = x[r, c] / sqrt(mean_c x[r, c]^2 + eps) * weight[c]; x, out [..., n] and weight [n]
/// of one float dtype, rows contiguous; out may be x.  Computed in float32.  NormForm::weight
/// rounds the normed row to the dtype before the weight multiplies it (in float32, rounded again);
/// one_plus_weight rounds once, at the end: what the networks were trained with.
void rms_norm(TensorView x, TensorView weight, double eps, NormForm form, TensorView out);

}  // namespace kvlab
