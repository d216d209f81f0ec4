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

/// A method of a config: {"name": "quant", "params": {...}, "artifact": "PATH"}, the last two
/// optional; a string is a name with default parameters.  "a+b" and {"name": "compose", "params":
/// {"stages": [...]}} are compositions; a stage is written like a method.
struct MethodSpec {
  std::string name{};
  Json params = Json::object();  // completed
  std::string artifact{};        // path or empty
};

/// E_CONFIG, E_UNKNOWN: not a method of the registry, a key that is none, or wrong parameters.
std::vector<MethodSpec> parse_methods(const Json& text, const Registry& registry);
/// "window+quant"
std::string label(const std::vector<MethodSpec>& specs);
/// What was asked, completed: [{"name", "params", "artifact"}, ...]; as the stages of a "compose"
/// it parses to the same.
Json describe(const std::vector<MethodSpec>& specs);

/// A method that cannot be read one way.
struct ReadRefusal {
  ReadPolicy policy = ReadPolicy::raw_chunk;
  std::string method{}, reason{};
};

/// What a cache is made of.  Selectors apply in the order given.
struct Composition {
  std::vector<MethodSpec> methods{};
  Capabilities capabilities{};
  std::shared_ptr<const Project> project{};
  std::optional<Encode> encode{};
  std::vector<std::shared_ptr<const Select>> selects{};
  std::vector<std::shared_ptr<const Artifact>> artifacts{};  // keep tensors alive
  std::vector<ReadRefusal> read_refusals{};                  // capabilities.refuses, explained
};

/// What to do with a method that needs an artifact where the spec names none.
enum class MissingArtifact : u8 {
  refuse,     // E_CONFIG that says to run `kvlab prepare`
  leave_out,  // judge the rest: its stages are unknown
  example     // Method::example, where there is one: for bytes and speed, not for results
};

/// Checks the methods against the shape and against each other, before any weight is read:
/// E_COMPOSE with both parties and the reason; E_FILE, E_FORMAT, E_STALE_ARTIFACT for artifacts (a
/// shape without fingerprint fits any); a method's own refusal as it throws it.  Returns what is
/// known: fit for check_read_policy and for reports, not for a cache.
Composition check_composition(const std::vector<MethodSpec>& specs, const ModelShape& shape,
                              const Registry& registry,
                              MissingArtifact missing = MissingArtifact::refuse);

/// The composition itself, checked again with weights and artifacts.
Composition compose(const std::vector<MethodSpec>& specs, const ModelShape& shape,
                    const Registry& registry, const ModelAccess* model, Dtype run_dtype,
                    Device device = {}, MissingArtifact missing = MissingArtifact::refuse);

/// E_READ_POLICY naming the method and the reason, unless every part of it can be read this way.
void check_read_policy(const Composition& composition, ReadPolicy policy);

}  // namespace kvlab
