// Only the keys of all heads are stored, before RoPE, in one row per token: head h takes its slice
// as key and turns the whole row into its value, v_h = M_h row.

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/example_methods/example_methods.h"

namespace kvlab::test {
namespace {

class KeysOnly final : public Project {
 public:
  explicit KeysOnly(const ModelShape& shape) {
    for (const Layer& layer : shape.layers) {
      const int64_t heads = layer.num_kv_heads, dv = layer.value_dim,
                    width = heads * layer.head_dim;
      std::vector<float>& map = maps_.emplace_back(static_cast<size_t>(heads * dv * width));
      for (int64_t i = 0; i < heads * dv; ++i)
        for (int64_t j = 0; j < width; ++j)
          map[static_cast<size_t>(i * width + j)] = map_entry(0, i, j, 0.3);
      layouts_.push_back(
          {.streams = {{.name = "row", .width = static_cast<int>(width), .pre_rope = true}},
           .key = {.map = Operand::Map::slice, .stream = "row", .rotate = bool(layer.rope)},
           .values = {{.map = Operand::Map::up,
                       .stream = "row",
                       .up = dense_view(map.data(), Dtype::f32, {heads, dv, width})}}});
    }
  }
  Layout layout(int layer) const override { return layouts_[static_cast<size_t>(layer)]; }
  Needs needs(int, int64_t) const override { return Needs::keys_pre_rope; }
  void rows(const Append& append, NewRows& out) const override {
    const int64_t width = append.keys_pre_rope.size(1) * append.keys_pre_rope.size(2);
    for_rows(append.keys_pre_rope, out.stream("row"),
             [&](const float* keys, float* row) { std::copy_n(keys, width, row); });
  }

 private:
  std::vector<std::vector<float>> maps_{};
  std::vector<Layout> layouts_{};
};

}  // namespace

void register_slim_like(Registry& registry) {
  registry.add(Method{.name = "slim_like",
                      .summary = "Keys alone; values are a map of all heads' keys.",
                      .capabilities =
                          [](const Setup&) {
                            return Capabilities{.needs = Needs::keys_pre_rope,
                                                .unrotated_keys = true};
                          },
                      .stages =
                          [](const Setup& setup) {
                            return Stages{.project = std::make_shared<KeysOnly>(*setup.shape)};
                          }});
}

}  // namespace kvlab::test
