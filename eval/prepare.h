#pragma once
// Offline steps: what a method learns from a model and a text before it can run.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/artifact.h"
#include "core/compose.h"
#include "core/json.h"
#include "core/registry.h"
#include "eval/model.h"

namespace kvlab {

struct Preparation {
  MethodSpec method{};
  Json model{};                   // as load_model takes it
  std::vector<int32_t> tokens{};  // calibration; may be empty where the method needs none
  Json data = Json::object();     // what the tokens are, for the record
  std::function<void(double share, const std::string& what)> progress{};
};

/// The one method that `text` (a name, or {"name", "params"}) means.  E_CONFIG: a composition, or
/// one that already has an artifact.  E_UNSUPPORTED: it has no offline step.
MethodSpec method_to_prepare(const Json& text, const Registry& registry);

/// Runs the method's offline step.  The artifact's header says, beside what the method wrote, who
/// made it: {"method", "method_params", "model", "made": {"kvlab", "model", "dtype", "data"}}.
Artifact prepare(const Preparation& preparation, Model& model, const Registry& registry);

}  // namespace kvlab
