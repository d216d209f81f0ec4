#include "core/model_shape.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace kvlab {
namespace {

/// What is wrong with one layer, as an error.
struct ShapeComplaint {
  const ModelShape& shape;
  size_t layer;
  template <class... Parts>
  [[noreturn]] void operator()(const Parts&... parts) const {
    fail("E_SHAPE", shape.architecture, ": layer ", layer, ": ", parts...);
  }
};

bool is_positive(double value) { return std::isfinite(value) && value > 0; }

void check_heads(const Layer& layer, const ShapeComplaint& complain) {
  if (layer.num_heads < 1 || layer.num_kv_heads < 1)
    complain("num_heads is ", layer.num_heads, " and num_kv_heads ", layer.num_kv_heads,
             ", both must be at least 1");
  if (layer.num_heads % layer.num_kv_heads != 0)
    complain("num_heads ", layer.num_heads, " is not a multiple of num_kv_heads ",
             layer.num_kv_heads);
  if (layer.head_dim < 1 || layer.value_dim < 1)
    complain("head_dim is ", layer.head_dim, " and value_dim ", layer.value_dim,
             ", both must be at least 1");
}

void check_logits(const Layer& layer, const ShapeComplaint& complain) {
  if (!is_positive(layer.scale)) complain("scale is ", layer.scale, ", must be positive");
  if (layer.softcap != 0 && !is_positive(layer.softcap))
    complain("softcap is ", layer.softcap, ", must be positive, or 0 for none");
  if (layer.window_left < -1)
    complain("window_left is ", layer.window_left, ", must be at least 0, or -1 for all");
  const auto slopes = std::ssize(layer.alibi_slopes);
  if (slopes != 0 && slopes != layer.num_heads)
    complain("there are ", slopes, " alibi_slopes for ", layer.num_heads, " heads");
  for (const float slope : layer.alibi_slopes)
    if (!std::isfinite(slope)) complain("an alibi slope is ", slope);
  if (layer.distance_bias < 0)
    complain("distance_bias is ", layer.distance_bias, ", must be at least 1, or 0 for none");
  if (layer.distance_bias > 0 && layer.kind == Layer::Kind::cross)
    complain("distance_bias is ", layer.distance_bias,
             ", but on a cross layer queries have no distance to rows; must be 0");
}

void check_rope(const Layer& layer, const ShapeComplaint& complain) {
  const Rope& rope = layer.rope;
  if (!rope) {
    if (rope.rotary_dim != 0 || !rope.inv_freq.empty())
      complain("rope has no style but rotary_dim ", rope.rotary_dim, " and ", rope.inv_freq.size(),
               " frequencies");
    return;
  }
  if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0 || rope.rotary_dim > layer.head_dim)
    complain("rotary_dim is ", rope.rotary_dim, ", must be even and in 2..", layer.head_dim);
  if (std::ssize(rope.inv_freq) != rope.rotary_dim / 2)
    complain("there are ", rope.inv_freq.size(), " inv_freq for rotary_dim ", rope.rotary_dim,
             ", half as many are needed");
  for (const double frequency : rope.inv_freq)
    if (!std::isfinite(frequency)) complain("an inv_freq is ", frequency);
  if (!is_positive(rope.attention_factor))
    complain("attention_factor is ", rope.attention_factor, ", must be positive");
}

void check_states(const ModelShape& shape) {
  std::set<std::string> names;
  for (const StateSpec& state : shape.states) {
    KVLAB_REQUIRE(!state.name.empty() && names.insert(state.name).second, "E_SHAPE",
                  shape.architecture, ": state `", state.name, "`: names must be distinct");
    for (const int64_t size : state.sizes)
      KVLAB_REQUIRE(size >= 1, "E_SHAPE", shape.architecture, ": state `", state.name,
                    "` has a dimension of ", size);
  }
}

}  // namespace

bool has_cross(const ModelShape& shape) {
  return std::ranges::any_of(shape.layers,
                             [](const Layer& layer) { return layer.kind == Layer::Kind::cross; });
}

int64_t dense_bytes_per_token(const ModelShape& shape, Layer::Kind kind) {
  int64_t bytes = 0;
  for (const Layer& layer : shape.layers)
    if (layer.kind == kind)
      bytes += int64_t{2} * layer.num_kv_heads * (layer.head_dim + layer.value_dim);
  return bytes;
}

int64_t dense_bytes(const ModelShape& shape, int64_t tokens, int64_t encoder_tokens) {
  return tokens * dense_bytes_per_token(shape) +
         encoder_tokens * dense_bytes_per_token(shape, Layer::Kind::cross);
}

void check(const ModelShape& shape) {
  KVLAB_REQUIRE(!shape.layers.empty(), "E_SHAPE", shape.architecture, ": there are no layers");
  KVLAB_REQUIRE(shape.width >= 1 && shape.vocab_size >= 1 && shape.max_positions >= 1, "E_SHAPE",
                shape.architecture, ": width is ", shape.width, ", vocab_size ", shape.vocab_size,
                ", max_positions ", shape.max_positions, ", all must be at least 1");
  int block = 0;
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const Layer& layer = shape.layers[i];
    const ShapeComplaint complain{shape, i};
    if (layer.block < block) complain("block ", layer.block, " comes after block ", block);
    block = layer.block;
    if (layer.kind == Layer::Kind::tap) continue;  // appends rows of its own, attends to nothing
    check_heads(layer, complain);
    check_logits(layer, complain);
    check_rope(layer, complain);
  }
  check_states(shape);
}

}  // namespace kvlab
