// Keys and values of a group of heads share a latent of half their width, l = D_g x.  Head h reads
// U_h l: keys are rebuilt before RoPE, values are mapped once after the weighted sum.

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/example_methods/example_methods.h"

namespace kvlab::test {
namespace {

/// The maps of one side of one layer.
struct Side {
  int groups = 1;
  int64_t rank = 1, in = 1;
  std::vector<float> up{};

  Side(const Layer& layer, int what, int64_t dim)
      : groups(layer.num_kv_heads % 2 == 0 ? layer.num_kv_heads / 2 : 1),
        rank(std::max<int64_t>(1, layer.num_kv_heads / groups * dim / 2)),
        in(layer.num_kv_heads / groups * dim),
        up(static_cast<size_t>(layer.num_kv_heads * dim * rank)) {
    for (int64_t i = 0; i < layer.num_kv_heads * dim; ++i)
      for (int64_t r = 0; r < rank; ++r)
        up[static_cast<size_t>(i * rank + r)] = map_entry(what, i, r, 0.4);
  }
  /// x [Hkv * dim] -> latents [groups * rank]
  void down(int what, const float* x, float* latents) const {
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t r = 0; r < rank; ++r) {
        float sum = 0;
        for (int64_t j = 0; j < in; ++j) sum += map_entry(what, r, g * in + j, 0.5) * x[g * in + j];
        latents[g * rank + r] = sum;
      }
  }
};

constexpr int kKeyDown = 1, kKeyUp = 2, kValueDown = 3, kValueUp = 4;

class Latents final : public Project {
 public:
  explicit Latents(const ModelShape& shape) {
    for (const Layer& layer : shape.layers) {
      keys_.emplace_back(layer, kKeyUp, layer.head_dim);
      values_.emplace_back(layer, kValueUp, layer.value_dim);
      layers_.push_back(layer);
    }
  }
  Layout layout(int at) const override {
    const Layer& layer = layers_[static_cast<size_t>(at)];
    const Side &key = keys_[static_cast<size_t>(at)], &value = values_[static_cast<size_t>(at)];
    const auto operand = [&](const Side& side, const char* name, int64_t dim, bool rotate) {
      return Operand{
          .map = Operand::Map::up,
          .stream = name,
          .up = dense_view(side.up.data(), Dtype::f32, {layer.num_kv_heads, dim, side.rank}),
          .rotate = rotate};
    };
    return {.streams = {{.name = "key_latent",
                         .units = key.groups,
                         .width = int(key.rank),
                         .pre_rope = true},
                        {.name = "value_latent", .units = value.groups, .width = int(value.rank)}},
            .key = operand(key, "key_latent", layer.head_dim, bool(layer.rope)),
            .values = {operand(value, "value_latent", layer.value_dim, false)}};
  }
  Needs needs(int, int64_t) const override { return Needs::keys_pre_rope | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    const auto at = static_cast<size_t>(append.layer);
    down(keys_[at], kKeyDown, append.keys_pre_rope, out.stream("key_latent"));
    down(values_[at], kValueDown, append.values, out.stream("value_latent"));
  }

 private:
  static void down(const Side& side, int what, const TensorView& from, const TensorView& to) {
    for_rows(from, to, [&](const float* x, float* latents) { side.down(what, x, latents); });
  }
  std::vector<Side> keys_{}, values_{};
  std::vector<Layer> layers_{};
};

}  // namespace

void register_palu_like(Registry& registry) {
  registry.add(Method{.name = "palu_like",
                      .summary = "Latents of half the width per group of heads.",
                      .capabilities =
                          [](const Setup&) {
                            return Capabilities{.needs = Needs::keys_pre_rope | Needs::values,
                                                .unrotated_keys = true};
                          },
                      .stages =
                          [](const Setup& setup) {
                            return Stages{.project = std::make_shared<Latents>(*setup.shape)};
                          }});
}

}  // namespace kvlab::test
