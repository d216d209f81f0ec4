#pragma once
// Five methods of a screen each, in float32, that use what the interfaces offer and no method of
// this repository uses yet: what is stored may be shared, mapped, rebuilt, dropped per head or
// prepared offline.

#include <cstring>

#include "core/error.h"
#include "core/registry.h"

namespace kvlab::test {

void register_slim_like(Registry& registry);
void register_palu_like(Registry& registry);
void register_goldfinch_like(Registry& registry);
void register_gate_like(Registry& registry);
void register_centred_like(Registry& registry);

/// Adds the five.
void register_example_methods(Registry& registry);

/// Entry (i, j) of the fixed maps the methods use, in [-scale, scale]: `what` tells maps apart.
float map_entry(int what, int64_t i, int64_t j, double scale);

/// Calls map(from row, to row) for each row of two float32 tensors.
template <class Map>
void for_rows(const TensorView& from, const TensorView& to, Map map) {
  KVLAB_REQUIRE(from.dtype == Dtype::f32 && to.dtype == Dtype::f32, "E_UNSUPPORTED",
                "the example methods compute in float32; run them in it");
  for (int64_t row = 0; row < from.size(0); ++row)
    map(reinterpret_cast<const float*>(from.at(row)), reinterpret_cast<float*>(to.at(row)));
}

}  // namespace kvlab::test
