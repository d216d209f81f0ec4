#pragma once
// What a method is, in numbers that were measured on caches of its own.

#include <string>
#include <vector>

#include "core/compose.h"
#include "core/engine.h"
#include "core/json.h"
#include "core/model_shape.h"

namespace kvlab {

/// A shape people know: L layers that are all alike.
struct NamedShape {
  std::string name{};
  int num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
};
const std::vector<NamedShape>& named_shapes();
/// One layer of it (others only repeat it), RoPE half-split.
ModelShape one_layer(const NamedShape& shape);

/// For a shape without weights, in bfloat16: a method that needs an artifact gets its example.
Composition example_composition(const std::vector<MethodSpec>& specs, const ModelShape& shape,
                                const Registry& registry);

/// What a cache held after a prefill of `tokens` tokens, all layers together.
struct TokenBytes {
  std::string shape{};
  int64_t tokens = 0;
  double bytes_per_token = 0, metadata_per_token = 0, residual_per_token = 0;
  double slack_per_token = 0;  // allocated and unused
  double dense_per_token = 0;  // 16 bits
  std::string refused{};       // why there is no such cache; the numbers are 0 then
};

/// Appends rows of zeros to a cache of one layer, as a prefill does, and reads its accounting.
TokenBytes measure_token_bytes(const std::vector<MethodSpec>& specs, const NamedShape& shape,
                               const Registry& registry, std::shared_ptr<Engine> engine,
                               int64_t tokens);

/// {"name", "summary", "parameters": [...], "capabilities", "bytes_per_token": [...]}.
Json method_card(const std::vector<MethodSpec>& specs, const Registry& registry,
                 std::shared_ptr<Engine> engine, int64_t tokens);
/// The same for people.
std::string method_card_text(const Json& card);

}  // namespace kvlab
