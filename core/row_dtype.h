#pragma once
// What rows come in: the dtype of a run, and of a stream that declares one of its own.

#include <string_view>

#include "core/types.h"

namespace kvlab {

inline constexpr std::string_view kRowDtypes = "float32, bfloat16 or float16";

inline bool is_row_dtype(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::bf16 || dtype == Dtype::f16;
}

}  // namespace kvlab
