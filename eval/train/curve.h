#pragma once
// The curve of a training run as a picture that model cards can show.

#include <span>
#include <string>

#include "core/json.h"

namespace kvlab {

/// SVG of the lines of log.jsonl over tokens: on the left the loss (thin: each step; thick: its
/// running mean) and "text_loss" of validations, on the right every other number of theirs between
/// 0 and 1.  Numbers ending in "_tokens" are left out.
std::string training_curve(std::span<const Json> log, const std::string& title);

}  // namespace kvlab
