#pragma once
// Weights of an affine map.

#include "core/artifact.h"

namespace kvlab {

/// y = weight x + bias
struct Linear {
  Tensor weight{};  // [out, in]
  Tensor bias{};    // [out], or absent
};

/// Bytes of a tensor, 0 of an absent one.
int64_t bytes_of(const Tensor& tensor);
int64_t bytes_of(const Linear& linear);

}  // namespace kvlab
