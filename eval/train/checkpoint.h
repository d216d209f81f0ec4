#pragma once
// Where a training run can be taken up again: one safetensors file that appears whole or not at
// all.

#include <filesystem>
#include <vector>

#include "core/json.h"
#include "eval/train/adamw.h"

namespace kvlab {

/// The tensors and `about` ({"step", "tokens", "config", ...}), under "kvlab_training" in the
/// file's metadata.  E_DISK.
void save_checkpoint(const std::filesystem::path& path, const std::vector<NamedParameter>& state,
                     const Json& about);

/// Fills `state`, bit for bit, and returns `about`.  E_FORMAT: not a checkpoint, or cut off.
/// E_WEIGHT, E_SHAPE: of something else.
Json load_checkpoint(const std::filesystem::path& path, const std::vector<NamedParameter>& state);

/// Copies tensors of the same names from a safetensors file or a model directory, converted to the
/// dtype of `parameters`.  E_WEIGHT: one is missing.  E_SHAPE.
void load_weights(const std::filesystem::path& path, const std::vector<NamedParameter>& parameters);

}  // namespace kvlab
