#pragma once
// Where a training run computes, and how fast that could be.

#include <c10/core/Device.h>

#include <string>

#include "core/types.h"

namespace kvlab {

/// "cpu", "cuda" or "cuda:1".  LibTorch's CUDA half is opened when it is asked for.
/// E_NO_CUDA: the installed LibTorch has none, or there is no GPU.  E_CONFIG: another name.
at::Device training_device(const std::string& name);

/// Floating-point operations a second of a product of two large square matrices, the best of
/// several, in this process and on its threads.
double peak_operations(Dtype dtype, const at::Device& device);

}  // namespace kvlab
