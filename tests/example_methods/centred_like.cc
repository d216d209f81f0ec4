// The offline step of a method, on one page: it learns each key channel's mean and spread from a
// text.  Keys are stored before RoPE as so many spreads from the mean, at most `limit` of them, and
// read through the map that takes them back.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "tests/example_methods/example_methods.h"

namespace kvlab::test {
namespace {

// ---- offline

/// Mean and spread of each channel over the rows [T, channels] a tap hands over.
void measure(const TensorView& keys, float* mean, float* spread) {
  const int64_t rows = keys.size(0), channels = keys.size(1) * keys.size(2);
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const double x = reinterpret_cast<const float*>(keys.at(row))[c];
      sum += x;
      squares += x * x;
    }
    const double middle = sum / static_cast<double>(rows);
    const double variance = squares / static_cast<double>(rows) - middle * middle;
    mean[c] = static_cast<float>(middle);
    spread[c] = static_cast<float>(std::sqrt(std::max(variance, 0.0)));
  }
}

Artifact prepare_centred(const Calibration& calibration) {
  KVLAB_REQUIRE(calibration.tokens.size() > 1, "E_CONFIG",
                "centred_like: a spread needs two tokens, the text has ",
                calibration.tokens.size());
  const ModelShape& shape = calibration.model->shape();
  std::vector<Tensor> tensors;
  Json rows = Json::array();
  calibration.model->visit(calibration.tokens, [&](const Tap& tap) {
    const Layer& layer = shape.layers[static_cast<size_t>(tap.layer)];
    for (const char* name : {"mean", "spread"})
      tensors.push_back(make_tensor(name + std::to_string(tap.layer), Dtype::f32,
                                    {layer.num_kv_heads, layer.head_dim}));
    float* const spreads = tensors.back().view.as<float>();
    measure(tap.keys_pre_rope, std::prev(tensors.end(), 2)->view.as<float>(), spreads);
    rows.push_back({tap.layer, *std::max_element(spreads, spreads + tensors.back().view.numel())});
    calibration.progress(tap.layer / static_cast<double>(shape.layers.size()), "spreads");
  });
  return {{{"method", "centred_like"},
           {"method_params", *calibration.params},
           {"model", shape.fingerprint},
           {"table", {{"columns", {"layer", "largest spread"}}, {"rows", rows}}},
           {"notes",
            {"spreads are those of " + std::to_string(calibration.tokens.size()) + " tokens"}}},
          std::move(tensors)};
}

// ---- online

class Centred final : public Project {
 public:
  explicit Centred(const Setup& setup) : limit_(setup.params->at("limit")) {
    for (size_t i = 0; i < setup.shape->layers.size(); ++i) {
      const Layer& layer = setup.shape->layers[i];
      const int64_t heads = layer.num_kv_heads, d = layer.head_dim;
      const Side& side =
          sides_.emplace_back(Side{.mean = setup.artifact->tensor("mean" + std::to_string(i)),
                                   .spread = setup.artifact->tensor("spread" + std::to_string(i)),
                                   .up = make_tensor("up", Dtype::f32, {heads, d, d})});
      for (int64_t c = 0; c < heads * d; ++c)
        side.up.view.as<float>()[c * d + c % d] = side.spread.as<float>()[c];
      Layout& layout = layouts_.emplace_back(dense_layout(layer, true));
      layout.key.map = Operand::Map::up;
      layout.key.up = side.up.view;
      layout.key.bias = side.mean;
    }
  }
  Layout layout(int layer) const override { return layouts_[static_cast<size_t>(layer)]; }
  Needs needs(int, int64_t) const override { return Needs::keys_pre_rope | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    const Side& side = sides_[static_cast<size_t>(append.layer)];
    for_rows(append.keys_pre_rope, out.stream("key"), [&](const float* key, float* row) {
      for (int64_t c = 0; c < side.mean.numel(); ++c) {
        const float spread = side.spread.as<float>()[c], off = key[c] - side.mean.as<float>()[c];
        row[c] = spread > 0 ? std::clamp(off / spread, -limit_, limit_) : 0;
      }
    });
    const int64_t width = append.values.size(1) * append.values.size(2);
    for_rows(append.values, out.stream("value"),
             [&](const float* value, float* row) { std::copy_n(value, width, row); });
  }

 private:
  struct Side {
    TensorView mean{}, spread{};  // of the artifact, which lives as long as the composition
    Tensor up{};                  // the spreads as diagonals
  };
  float limit_;
  std::vector<Side> sides_{};
  std::vector<Layout> layouts_{};
};

// ---- what its paper would print

Json normal_tables() {
  Json rows = Json::array();
  for (const int limit : {1, 2}) rows.push_back({limit, std::erfc(limit / std::sqrt(2.0))});
  return {{"tables",
           {{{"title", "Share of normal keys beyond the limit"},
             {"columns", {"limit", "share"}},
             {"rows", rows}}}}};
}

}  // namespace

void register_centred_like(Registry& registry) {
  registry.add(Method{
      .name = "centred_like",
      .summary = "Keys in spreads from a mean that an offline step has measured.",
      .schema = R"({"limit": {"type": "integer", "default": 1, "choices": [1, 2],
                    "doc": "farthest from the mean that a key may lie, in spreads"}})",
      .capabilities =
          [](const Setup&) {
            return Capabilities{.needs = Needs::keys_pre_rope | Needs::values,
                                .needs_artifact = true,
                                .unrotated_keys = true};
          },
      .stages =
          [](const Setup& setup) { return Stages{.project = std::make_shared<Centred>(setup)}; },
      .prepare = prepare_centred,
      .paper = normal_tables});
}

}  // namespace kvlab::test
