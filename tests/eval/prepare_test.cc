// The offline step of a method, from a model to a run that reads its artifact.

#include "eval/prepare.h"

#include <gmock/gmock.h>

#include <cstring>

#include "eval/catalogue.h"
#include "eval/experiment/run.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

/// Stores values with their mean taken away, which it knows from the model: an up map gives it
/// back. Nothing is saved; it is the least that an artifact can be needed for.
class Centred final : public Project {
 public:
  explicit Centred(const Setup& setup) : layers_(setup.shape->layers) {
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      const int64_t heads = layer.num_kv_heads, dv = layer.value_dim;
      std::vector<float>& eye = maps_.emplace_back(static_cast<size_t>(heads * dv * dv));
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t c = 0; c < dv; ++c) eye[static_cast<size_t>((h * dv + c) * dv + c)] = 1;
      if (setup.artifact != nullptr)
        means_.push_back(setup.artifact->tensor("mean" + std::to_string(i)));
    }
  }
  Layout layout(int at) const override {
    const Layer& layer = layers_[static_cast<size_t>(at)];
    Layout layout = dense_layout(layer, false);
    auto& map = const_cast<std::vector<float>&>(maps_[static_cast<size_t>(at)]);
    layout.values[0].map = Operand::Map::up;
    layout.values[0].up =
        dense_view(map.data(), Dtype::f32, {layer.num_kv_heads, layer.value_dim, layer.value_dim});
    if (!means_.empty()) layout.values[0].bias = means_[static_cast<size_t>(at)];
    return layout;
  }
  Needs needs(int, int64_t) const override { return Needs::keys | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    const TensorView mean = means_[static_cast<size_t>(append.layer)];
    for (int64_t row = 0; row < append.rows.size(); ++row) {
      std::memcpy(out.stream("key").at(row), append.keys.at(row), bytes(append.keys));
      const auto* from = reinterpret_cast<const float*>(append.values.at(row));
      auto* to = reinterpret_cast<float*>(out.stream("value").at(row));
      for (int64_t i = 0; i < mean.numel(); ++i) to[i] = from[i] - mean.as<float>()[i];
    }
  }

 private:
  static size_t bytes(const TensorView& rows) {
    return static_cast<size_t>(rows.size(1) * rows.size(2) * size_of(rows.dtype));
  }
  std::vector<Layer> layers_;
  std::vector<std::vector<float>> maps_{};
  std::vector<TensorView> means_{};
};

Artifact learn_means(const Calibration& calibration) {
  const ModelShape& shape = calibration.model->shape();
  std::vector<Tensor> means;
  for (size_t i = 0; i < shape.layers.size(); ++i)
    means.push_back(make_tensor("mean" + std::to_string(i), Dtype::f32,
                                {shape.layers[i].num_kv_heads, shape.layers[i].value_dim}));
  calibration.model->visit(calibration.tokens, [&](const Tap& tap) {
    calibration.progress(tap.layer / 2.0, "means");
    auto* mean = means[static_cast<size_t>(tap.layer)].view.as<float>();
    const int64_t rows = tap.values.size(0), width = tap.values.numel() / rows;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < width; ++i)
        mean[i] += reinterpret_cast<const float*>(tap.values.at(row))[i] / static_cast<float>(rows);
  });
  return {{{"method", "-"}, {"method_params", Json::object()}, {"model", "-"}, {"note", 7}},
          std::move(means)};
}

Registry with_centred() {
  Registry registry;
  register_all(registry);
  registry.add(Method{
      .name = "centred",
      .summary = "values without their mean",
      .schema = R"({"shift": {"type": "number", "default": 0, "doc": "unused"}})",
      .capabilities = [](const Setup&) { return Capabilities{.needs_artifact = true}; },
      .stages =
          [](const Setup& setup) { return Stages{.project = std::make_shared<Centred>(setup)}; },
      .prepare = learn_means});
  return registry;
}

class Prepare : public testing::Test {
 protected:
  Artifact prepared() {
    return prepare({.method = method_to_prepare("centred", registry_),
                    .model = kModel,
                    .tokens = {0, 1, 17, 2, 18, 1, 17},
                    .data = {{"tokens", 7}}},
                   *model_, registry_);
  }
  const Json kModel{{"builtin", "recall2"}};
  Registry registry_ = with_centred();
  std::unique_ptr<Model> model_ = load_model(kModel);
};

TEST_F(Prepare, SaysInTheHeaderWhoMadeItOfWhat) {
  const Artifact artifact = prepared();
  const Json& header = artifact.header();
  EXPECT_EQ(header.at("method"), "centred");
  EXPECT_EQ(header.at("method_params"), Json({{"shift", 0}}));
  EXPECT_EQ(header.at("model"), model_->shape().fingerprint);
  EXPECT_EQ(header.at("note"), 7) << "what the method wrote";
  EXPECT_EQ(header.at("made").at("data"), Json({{"tokens", 7}}));
  EXPECT_EQ(header.at("made").at("dtype"), "float32");
}

TEST_F(Prepare, WhatItMadeIsWhatARunReads) {
  const test::Scratch folder;
  const auto path = folder.path() / "centred.safetensors";
  prepared().save(path);
  const Json method{{"name", "centred"}, {"artifact", path.string()}};
  const Json config{
      {"schema", kConfigSchema},
      {"name", "prepared"},
      {"model", kModel},
      {"tasks", {{{"builtin", "mqar"}, {"pairs", 4}, {"context", 64}, {"samples", 2}}}},
      {"methods", {method}},
      {"matrix", {{"read_policy", {"stored"}}}}};
  const Experiment experiment = parse_experiment(config, {}, registry_, catalogue());
  const RunResult result = run_experiment(experiment, registry_, catalogue(),
                                          {.allow_vacuous = true, .digest_models = false});
  const CellOutcome &dense = result.finished[0].outcome, &cell = result.finished[1].outcome;
  ASSERT_EQ(cell.samples.size(), 2);
  for (size_t i = 0; i < 2; ++i)
    for (size_t t = 0; t < cell.samples[i].nll.size(); ++t)
      EXPECT_NEAR(cell.samples[i].nll[t], dense.samples[i].nll[t], 1e-5);
}

TEST_F(Prepare, RefusesWhatCannotBePrepared) {
  EXPECT_REFUSED("E_UNSUPPORTED", "dense has no offline step",
                 method_to_prepare("dense", registry_));
  EXPECT_REFUSED("E_CONFIG", "is 2 methods", method_to_prepare("dense+centred", registry_));
  EXPECT_REFUSED("E_CONFIG", "leave it out",
                 method_to_prepare({{"name", "centred"}, {"artifact", "x"}}, registry_));
}

}  // namespace
}  // namespace kvlab
