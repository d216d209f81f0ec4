#pragma once
// The codecs of general number formats: float32, float16, bfloat16; float24, bfloat24;
// int8, int4, int2.  Layouts, bounds and bytes per token: kernels/codecs/float.h, float24.h, int.h.

#include "core/registry.h"

namespace kvlab {

void register_codecs(Registry& registry);

/// "float32" itself, for rows that are made rather than stored.
const Codec& float32_codec();

}  // namespace kvlab
