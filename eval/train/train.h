#pragma once
// A training run from its recipe to the exported model.

#include <filesystem>
#include <functional>
#include <string>

#include "core/json.h"
#include "eval/train/loop.h"
#include "eval/train/train_config.h"

namespace kvlab {

struct TrainOptions {
  std::string device = "cpu";
  std::filesystem::path export_to{};  // empty: "model" in the run directory
};

struct TrainResult {
  int64_t steps = 0;
  bool stopped = false;
  Json validation{};
  std::filesystem::path model{};
  int64_t parameters = 0;
};
Json to_json(const TrainResult& result);

/// One writer per run directory (E_BUSY).  Writes what run_loop does and config.json (the recipe,
/// completed); after each validation curve.svg, at the end the model.
TrainResult train_language_model(const TrainConfig& config, const TrainOptions& options,
                                 const LoopObserver& observer);

}  // namespace kvlab
