#pragma once
// Several methods at once.  Whether they go together is computed from what their stages say of
// themselves (granularity, read policies, rotation, causality, tiles), never from a list of names.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/method.h"
#include "core/registry.h"

namespace kvlab {

/// A method of a config: {"name": "quant", "params": {...}, "artifact": "PATH"}; a string is a name
/// with default parameters, "a+b" and {"name": "compose", "params": {"stages": [...]}} a
/// composition.
struct MethodSpec {
  std::string name{};
  Json params = Json::object();  // completed
  std::string artifact{};        // path or empty
};

/// E_CONFIG, E_UNKNOWN: not a method of the registry, or wrong parameters.
std::vector<MethodSpec> parse_methods(const Json& text, const Registry& registry);
/// "window+quant"
std::string label(const std::vector<MethodSpec>& specs);
/// Canonical JSON of what was asked: [{"name", "params", "artifact"}, ...].
Json describe(const std::vector<MethodSpec>& specs);

/// What a cache is made of.  Selectors apply in the order given.
struct Composition {
  std::vector<MethodSpec> methods{};
  Capabilities capabilities{};
  std::shared_ptr<const Project> project{};
  std::optional<Encode> encode{};
  std::vector<std::shared_ptr<const Select>> selects{};
  std::vector<std::shared_ptr<const Artifact>> artifacts{};  // keep tensors alive
};

/// Checks the methods against the shape and against each other, before any weight is read:
/// E_COMPOSE with both parties and the reason; a method's own refusal as it throws it.  Stages that
/// need an artifact are left out when it is absent (`for_check`).
void check_composition(const std::vector<MethodSpec>& specs, const ModelShape& shape,
                       const Registry& registry);

/// The composition itself; loads the artifacts.
Composition compose(const std::vector<MethodSpec>& specs, const ModelShape& shape,
                    const Registry& registry, const ModelAccess* model, Dtype run_dtype,
                    Device device = {});

/// E_READ_POLICY naming the method, unless every part of it can be read this way.
void check_read_policy(const Composition& composition, ReadPolicy policy);

}  // namespace kvlab
