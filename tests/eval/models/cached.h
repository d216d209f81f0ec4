#pragma once
// Models with a dense cache of their own.

#include <memory>

#include "core/compose.h"
#include "eval/model.h"
#include "kernels/cpu_engine.h"

namespace kvlab::test {

inline const Registry& all_methods() {
  static const Registry kRegistry = [] {
    Registry registry;
    register_all(registry);
    return registry;
  }();
  return kRegistry;
}

inline std::unique_ptr<Cache> new_cache(Model& model, const Json& method = "dense") {
  const Registry& registry = all_methods();
  Composition composition =
      compose(parse_methods(method, registry), model.shape(), registry, nullptr, model.dtype());
  return std::make_unique<Cache>(model.shape(), std::move(composition), registry,
                                 Where{.engine = make_cpu_engine(), .run_dtype = model.dtype()});
}

}  // namespace kvlab::test
