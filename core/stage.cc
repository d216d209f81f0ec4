#include "core/stage.h"

namespace kvlab {

Layout dense_layout(const Layer& layer, bool unrotated) {
  const bool rotates = unrotated && layer.rope;
  return {
      .streams = {{.name = "key",
                   .units = layer.num_kv_heads,
                   .width = layer.head_dim,
                   .pre_rope = rotates},
                  {.name = "value", .units = layer.num_kv_heads, .width = layer.value_dim}},
      .key = {.map = Operand::Map::own, .stream = "key", .rotate = rotates},
      .values = {{.map = Operand::Map::own, .stream = "value"}},
  };
}

}  // namespace kvlab
