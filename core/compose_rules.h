#pragma once
// Which methods go together: computed from what their stages say of themselves.  compose.cc builds
// the parts, this judges them; nobody else includes it.

#include <string>
#include <vector>

#include "core/compose.h"

namespace kvlab {

/// One method of a composition with what it supplies for a shape.
struct ComposedPart {
  std::string name{};
  Capabilities capabilities{};
  Stages stages{};
};

struct Parts {
  const ModelShape& shape;
  const Registry& registry;
  std::vector<ComposedPart> all{};
};

/// E_COMPOSE: both parties, the reason, what to do; E_SHAPE: a stage contradicts itself or the
/// shape; E_UNKNOWN, E_CONFIG: a codec or its parameters.
void check_rules(const Parts& parts);

/// What layers take that no method projects: keys and values.
Needs needs_of_untouched_layers(const Parts& parts);

/// Who cannot be read how, and why; E_COMPOSE when nothing is left.
std::vector<ReadRefusal> read_refusals(const Parts& parts);

}  // namespace kvlab
