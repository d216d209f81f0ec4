// Slim attention: one row per token gives keys and values (Graef, Wasielewski, arXiv 2503.05840).
// README.md says what is stored, when that is exact, and what is this project's own.

#include <algorithm>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/registry.h"
#include "methods/slim/example.h"
#include "methods/slim/paper.h"
#include "methods/slim/prepare.h"
#include "methods/slim/project.h"

namespace kvlab::slim {
namespace {

constexpr const char* kSchema = R"json({
  "target": {"type": "string", "default": "near", "choices": ["strict", "near", "budget"],
             "doc": "largest error of values on held-out rows: strict 2 c, near the larger of 2 c and 2^-9, c what rounding costs a dense cache; budget: least error within `budget`"},
  "budget": {"type": "number", "default": 0.53125, "minimum": 0, "maximum": 1,
             "doc": "with target budget: bytes per token over those of the dense cache"},
  "mode": {"type": "string", "default": "auto",
           "choices": ["auto", "dense", "keys", "keys_shaped", "keys_side", "keys_shaped_side", "keys_basis", "keys24", "input", "klt"],
           "doc": "auto: each layer the first mode within the target; else this one for all"},
  "side": {"type": "integer", "default": 0, "minimum": 0, "maximum": 65536, "unit": "element",
           "doc": "side cache of a mode that is named; 0: a sixteenth of the key row"},
  "decoder": {"type": "string", "default": "inverse", "choices": ["inverse", "least_error"],
              "doc": "least_error: the linear decoder of least expected error where the inverse would multiply rounding errors; never exact"},
  "fallback": {"type": "string", "default": "dense", "choices": ["dense", "refuse"],
               "doc": "a layer that no mode keeps within the target stays dense, or prepare ends with SLIM_E_CONDITION"},
  "store": {"type": "string", "default": "", "choices": ["", "bfloat16", "float16", "float32"],
            "doc": "dtype of stored rows; empty: that of the model's weights"},
  "calibration_length": {"type": "integer", "default": 2048, "minimum": 8, "maximum": 1048576,
                         "doc": "tokens of one calibration sequence"}
})json";

/// An experiment need not repeat what the artifact was made with, but may not contradict it.
void check_params(const Json& params, const Json& made, const Schema& schema) {
  for (const Parameter& parameter : schema.parameters()) {
    const Json& asked = params.at(parameter.name);
    const Json was = made.value(parameter.name, parameter.standard);
    if (asked == parameter.standard || asked == was) continue;
    fail("E_CONFIG", "slim: `", parameter.name, "` is ", asked.dump(),
         ", but the artifact was made with ", was.dump(),
         "; leave it out or run `kvlab prepare slim` with it");
  }
}

Capabilities capabilities(const Setup& setup) {
  const ModelShape& shape = *setup.shape;
  const std::vector<Site> sites = sites_of(shape);
  Capabilities can{.needs = Needs::hidden | Needs::keys_pre_rope,
                   .position_free = true,
                   .needs_artifact = true,
                   .unrotated_keys = std::ranges::any_of(
                       sites, [](const Site& site) { return site.rotary != Rotary::none; })};
  if (setup.artifact != nullptr && SlimRows(shape, *setup.artifact).replaces_all())
    can.frees = {"value"};
  return can;
}

Stages stages(const Setup& setup) {
  static const Schema schema = Schema::parse(kSchema, "slim");
  check_params(*setup.params, setup.artifact->header().at("method_params"), schema);
  return {.project = std::make_shared<SlimRows>(*setup.shape, *setup.artifact)};
}

}  // namespace

void register_method(Registry& registry) {
  registry.add(Method{
      .name = "slim",
      .summary = "One row per token for keys and values together (slim attention, K- and X-cache).",
      .schema = kSchema,
      .capabilities = capabilities,
      .stages = stages,
      .prepare = prepare,
      .example = example,
      .paper = paper_tables});
}

}  // namespace kvlab::slim
