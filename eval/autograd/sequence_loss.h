#pragma once
// The loss of one sequence, as ModelAccess::loss has it.

#include <cstdint>
#include <span>

#include "core/model_access.h"
#include "eval/models/decoder.h"

namespace kvlab {

double sequence_loss(const Decoder& decoder, std::span<const int32_t> tokens,
                     const ModelAccess::Attention& attention);

}  // namespace kvlab
