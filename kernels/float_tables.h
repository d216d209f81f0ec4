#pragma once
// The float codecs' own tables, for rows that were decoded.

#include "kernels/codec_kernels.h"

namespace kvlab {

const CodecTable& float32_table(Isa isa);

}  // namespace kvlab
