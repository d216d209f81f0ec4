// The uncompressed cache: every key and value as the model gave it.  What the others are measured
// against, and the smallest method there can be.

#include "core/registry.h"

namespace kvlab::dense {

Capabilities capabilities(const Setup&) { return {.exact = true}; }

void register_method(Registry& registry) {
  registry.add(Method{.name = "dense",
                      .summary = "Keys and values as they come: the yardstick.",
                      .capabilities = capabilities});
}

}  // namespace kvlab::dense
