#include "tests/example_methods/example_methods.h"

#include <cmath>

namespace kvlab::test {

void register_example_methods(Registry& registry) {
  register_slim_like(registry);
  register_palu_like(registry);
  register_goldfinch_like(registry);
  register_gate_like(registry);
  register_centred_like(registry);
}

float map_entry(int what, int64_t i, int64_t j, double scale) {
  return static_cast<float>(scale * std::sin(1.0 + 7.0 * what + 1.3 * static_cast<double>(i) +
                                             2.9 * static_cast<double>(j)));
}

}  // namespace kvlab::test
