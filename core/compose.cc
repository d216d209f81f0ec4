#include "core/compose.h"

#include <algorithm>

#include "core/compose_rules.h"
#include "core/error.h"

namespace kvlab {
namespace {

using Specs = std::vector<MethodSpec>;

// --- reading a config

void parse_into(Specs& specs, const Json& text, const Registry& registry);

void add_named(Specs& specs, std::string_view name, const Json& params, std::string artifact,
               const Registry& registry) {
  const Method& method = registry.method(name);
  specs.push_back({.name = method.name,
                   .params = registry.method_schema(name).complete(params, method.name),
                   .artifact = std::move(artifact)});
}

/// "a+b"
void parse_names(Specs& specs, std::string_view text, const Registry& registry) {
  for (size_t first = 0; first <= text.size();) {
    const size_t last = std::min(text.find('+', first), text.size());
    KVLAB_REQUIRE(last > first, "E_CONFIG", "method `", printable(text),
                  "`: a name is empty; write one name or several joined by `+`");
    add_named(specs, text.substr(first, last - first), Json::object(), "", registry);
    first = last + 1;
  }
}

void check_keys(const Json& object, const std::vector<std::string>& known, std::string_view who) {
  for (const auto& [key, unused] : object.items())
    if (std::ranges::find(known, key) == known.end())
      fail("E_UNKNOWN", who, ": there is no key `", printable(key), "`", suggestion(key, known));
}

/// {"stages": [...]}
void parse_stages(Specs& specs, const Json& params, const Registry& registry) {
  KVLAB_REQUIRE(params.is_object(), "E_CONFIG", "compose: `params` must be an object");
  check_keys(params, {"stages"}, "compose");
  const bool has_stages = params.contains("stages") && params["stages"].is_array();
  KVLAB_REQUIRE(has_stages && !params["stages"].empty(), "E_CONFIG",
                "compose: `stages` must be a list of methods");
  for (const Json& stage : params["stages"]) parse_into(specs, stage, registry);
}

void parse_object(Specs& specs, const Json& text, const Registry& registry) {
  check_keys(text, {"name", "params", "artifact"}, "method");
  KVLAB_REQUIRE(text.contains("name") && text["name"].is_string(), "E_CONFIG", "method ",
                printable(canonical(text)), ": `name` must be a string");
  const auto name = text["name"].get<std::string>();
  const Json params = text.contains("params") ? text["params"] : Json::object();
  const Json artifact = text.contains("artifact") ? text["artifact"] : "";
  KVLAB_REQUIRE(artifact.is_string(), "E_CONFIG", printable(name), ": `artifact` is ",
                printable(canonical(artifact)), ", it must be a path");
  if (name != kComposeName) return add_named(specs, name, params, artifact, registry);
  KVLAB_REQUIRE(artifact.get_ref<const std::string&>().empty(), "E_CONFIG",
                "compose: `artifact` belongs to one of the stages, not to all");
  parse_stages(specs, params, registry);
}

void parse_into(Specs& specs, const Json& text, const Registry& registry) {
  if (text.is_string()) return parse_names(specs, text.get_ref<const std::string&>(), registry);
  KVLAB_REQUIRE(text.is_object(), "E_CONFIG", "method ", printable(canonical(text)),
                ": must be a name or an object with `name`");
  parse_object(specs, text, registry);
}

// --- building a composition

std::shared_ptr<const Artifact> artifact_of(const MethodSpec& spec, const ModelShape& shape,
                                            bool any_model) {
  if (spec.artifact.empty()) return nullptr;
  auto artifact = std::make_shared<const Artifact>(Artifact::load(spec.artifact));
  const auto made_for = artifact->header()["model"].get<std::string>();
  artifact->check_for(spec.name, any_model ? made_for : shape.fingerprint);
  return artifact;
}

/// Union of needs and refusals, the weaker of each promise.
Capabilities merged(const Parts& parts, const std::vector<ReadRefusal>& refusals) {
  Capabilities all{.needs = needs_of_untouched_layers(parts), .exact = true, .position_free = true};
  for (const ComposedPart& part : parts.all) {
    const Capabilities& one = part.capabilities;
    all.needs = all.needs | one.needs;
    all.causal_write &= one.causal_write;
    all.alters_weights |= one.alters_weights;
    all.truncatable &= one.truncatable;
    all.exact &= one.exact;
    all.deterministic &= one.deterministic;
    all.chunk_separable &= one.chunk_separable;
    all.position_free &= one.position_free;
    all.needs_artifact |= one.needs_artifact;
    all.unrotated_keys |= one.unrotated_keys;
    for (const std::string& role : one.frees)
      if (std::ranges::find(all.frees, role) == all.frees.end()) all.frees.push_back(role);
  }
  for (const ReadRefusal& refusal : refusals)
    if (std::ranges::find(all.refuses, refusal.policy) == all.refuses.end())
      all.refuses.push_back(refusal.policy);
  return all;
}

struct Build {
  const ModelShape& shape;
  const Registry& registry;
  const ModelAccess* model = nullptr;
  Dtype run_dtype = Dtype::f32;
  Device device{};
  bool for_check = false;
  MissingArtifact missing = MissingArtifact::refuse;
};

std::shared_ptr<const Artifact> example_of(const MethodSpec& spec, const Build& build) {
  const Method& method = build.registry.method(spec.name);
  if (!method.example) return nullptr;
  return std::make_shared<const Artifact>(method.example({.shape = &build.shape,
                                                          .params = &spec.params,
                                                          .run_dtype = build.run_dtype,
                                                          .device = build.device}));
}

ComposedPart part_of(const MethodSpec& spec, const std::shared_ptr<const Artifact>& artifact,
                     const Build& build) {
  const Method& method = build.registry.method(spec.name);
  const Setup setup{.shape = &build.shape,
                    .params = &spec.params,
                    .artifact = artifact.get(),
                    .model = build.model,
                    .run_dtype = build.run_dtype,
                    .device = build.device};
  ComposedPart part{.name = spec.name};
  if (method.capabilities) part.capabilities = method.capabilities(setup);
  if (part.capabilities.needs_artifact && artifact == nullptr) {
    KVLAB_REQUIRE(build.missing == MissingArtifact::leave_out, "E_CONFIG", spec.name,
                  ": needs an artifact, none is given; run `kvlab prepare` and name its file as "
                  "`artifact`");
    return part;
  }
  if (method.stages) part.stages = method.stages(setup);
  return part;
}

Composition built(const Specs& specs, const Build& build) {
  KVLAB_REQUIRE(!specs.empty(), "E_CONFIG", "method: there is none; `dense` is the plain cache");
  check(build.shape);
  Composition composition{.methods = specs};
  Parts parts{.shape = build.shape, .registry = build.registry};
  for (const MethodSpec& spec : composition.methods) {
    const bool any_model = build.for_check && build.shape.fingerprint.empty();
    auto artifact = artifact_of(spec, build.shape, any_model);
    if (artifact == nullptr && build.missing == MissingArtifact::example)
      artifact = example_of(spec, build);
    if (artifact != nullptr) composition.artifacts.push_back(artifact);
    parts.all.push_back(part_of(spec, artifact, build));
  }
  check_rules(parts);
  composition.read_refusals = read_refusals(parts);
  composition.capabilities = merged(parts, composition.read_refusals);
  for (const ComposedPart& part : parts.all) {
    if (part.stages.project != nullptr) composition.project = part.stages.project;
    if (part.stages.encode.has_value()) composition.encode = part.stages.encode;
    if (part.stages.select != nullptr) composition.selects.push_back(part.stages.select);
  }
  return composition;
}

}  // namespace

Specs parse_methods(const Json& text, const Registry& registry) {
  Specs specs;
  parse_into(specs, text, registry);
  return specs;
}

std::string label(const Specs& specs) {
  std::string text;
  for (const MethodSpec& spec : specs) text += (text.empty() ? "" : "+") + spec.name;
  return text;
}

Json describe(const Specs& specs) {
  Json all = Json::array();
  for (const MethodSpec& spec : specs)
    all.push_back({{"name", spec.name}, {"params", spec.params}, {"artifact", spec.artifact}});
  return all;
}

Composition check_composition(const Specs& specs, const ModelShape& shape, const Registry& registry,
                              MissingArtifact missing) {
  return built(specs,
               {.shape = shape, .registry = registry, .for_check = true, .missing = missing});
}

Composition compose(const Specs& specs, const ModelShape& shape, const Registry& registry,
                    const ModelAccess* model, Dtype run_dtype, Device device,
                    MissingArtifact missing) {
  return built(specs, {.shape = shape,
                       .registry = registry,
                       .model = model,
                       .run_dtype = run_dtype,
                       .device = device,
                       .missing = missing});
}

void check_read_policy(const Composition& composition, ReadPolicy policy) {
  const auto refusal = std::ranges::find(composition.read_refusals, policy, &ReadRefusal::policy);
  if (refusal == composition.read_refusals.end()) return;
  std::string others;
  for (const ReadPolicy other : {ReadPolicy::raw_chunk, ReadPolicy::stored, ReadPolicy::masked})
    if (std::ranges::find(composition.capabilities.refuses, other) ==
        composition.capabilities.refuses.end())
      others += (others.empty() ? "`" : " or `") + std::string(name_of(other)) + "`";
  fail("E_READ_POLICY", refusal->method, ": cannot be read with policy `", name_of(policy),
       "`: ", refusal->reason, "; use ", others);
}

}  // namespace kvlab
