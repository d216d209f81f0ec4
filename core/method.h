#pragma once
// A method: a plain value, nothing to inherit, so that Python and plugins add one like anybody.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/artifact.h"
#include "core/json.h"
#include "core/model_access.h"
#include "core/model_shape.h"
#include "core/schema.h"
#include "core/stage.h"

namespace kvlab {

/// What a method with given parameters promises on a given shape.  Judged before any weight is
/// read; a composition takes the union of needs and refusals and the weaker of each promise.
struct Capabilities {
  Needs needs = Needs::none;  // an upper bound of Project::needs and Select::needs
  std::vector<ReadPolicy> refuses{};
  bool causal_write = true;     // what is stored of token i depends on tokens <= i alone
  bool alters_weights = false;  // the forward pass differs even with an empty cache
  bool truncatable = true;
  bool exact = false;  // reads equal the dense cache's in the run dtype
  bool deterministic = true;
  bool chunk_separable = true;  // a range of rows means the same in another cache
  bool position_free = false;   // nothing stored depends on positions
  bool needs_artifact = false;  // stages() is not called without one
  bool unrotated_keys = false;  // asks for keys that are stored before RoPE and rotated when read
  std::vector<std::string> frees{};  // weight roles (ModelAccess) nobody needs once it owns them
};

/// What a method is asked with, valid for the call.  artifact and model are absent when a config is
/// merely checked: stages then say everything but tensors (`Operand::up` without data).
struct Setup {
  const ModelShape* shape = nullptr;
  const Json* params = nullptr;  // completed by the schema
  const Artifact* artifact = nullptr;
  const ModelAccess* model = nullptr;
  Dtype run_dtype = Dtype::f32;
  Device device{};
};

/// What an offline step is given.
struct Calibration {
  ModelAccess* model = nullptr;
  const Json* params = nullptr;
  std::span<const int32_t> tokens{};
  std::function<void(double share, const std::string& what)> progress{};
};

struct Method {
  std::string name{}, summary{};
  std::string schema{};  // JSON text, see core/schema.h
  /// Depends on parameters and shape; throws the refusal.  Empty: the default Capabilities.
  std::function<Capabilities(const Setup&)> capabilities{};
  /// Empty: no stages, the dense cache.
  std::function<Stages(const Setup&)> stages{};
  /// The offline step; empty: the method has none.
  std::function<Artifact(const Calibration&)> prepare{};
  /// An artifact for a shape nobody has weights of: tensors of the right sizes, numbers that mean
  /// nothing.  What bytes and speed are measured with.  Empty: a method that needs none, or cannot.
  std::function<Artifact(const Setup&)> example{};
  /// The source's published tables, computed anew: {"tables": [{"title", "columns", "rows"}]},
  /// cells strings or numbers.  Empty: none.
  std::function<Json()> paper{};
};

}  // namespace kvlab
