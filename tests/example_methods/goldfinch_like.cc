// Layer 0 stores a short row per token, the first features of its hidden state, and the token's id.
// Every layer, 0 included, rebuilds its keys and values from that row, the row before it and the
// id.

#include <algorithm>
#include <memory>

#include "tests/example_methods/example_methods.h"

namespace kvlab::test {
namespace {

constexpr int kWidth = 8;
constexpr int kKey = 5, kValue = 6, kId = 7;

/// y_i = sum_j M_ij (x_j + before_j / 2) times what the id says of feature i.
void rebuild_side(int what, int layer, const float* x, const float* before, int32_t id, int64_t n,
                  float* y) {
  for (int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (int64_t j = 0; j < kWidth; ++j)
      sum += map_entry(what, 31 * layer + i, j, 0.6) *
             (x[j] + (before == nullptr ? 0.0f : before[j] / 2));
    y[i] = sum * (1 + map_entry(kId, id, i, 0.5));
  }
}

class Shared final : public Project {
 public:
  explicit Shared(const ModelShape& shape) {
    KVLAB_REQUIRE(shape.width >= kWidth, "E_SHAPE", "goldfinch_like: hidden states have ",
                  shape.width, " features, at least ", kWidth, " are needed");
  }
  Layout layout(int layer) const override {
    if (layer > 0) return {.rows_of = 0, .rebuilds = true, .halo = 1};
    return {.streams = {{.name = "row", .width = kWidth}},
            .columns = {{.name = "id", .dtype = Dtype::i32}},
            .rebuilds = true,
            .halo = 1};
  }
  Needs needs(int layer, int64_t) const override {
    return layer > 0 ? Needs::none : Needs::hidden | Needs::token_ids;
  }
  void rows(const Append& append, NewRows& out) const override {
    if (append.layer > 0) return;
    for_rows(append.hidden, out.stream("row"),
             [](const float* hidden, float* row) { std::copy_n(hidden, kWidth, row); });
    std::copy(append.token_ids.begin(), append.token_ids.end(), out.column("id").as<int32_t>());
  }
  void rebuild(const RebuildCall& call) const override {
    const float* rows = call.streams[0].as<float>();
    const int32_t* ids = call.columns[0].as<int32_t>();
    for (int64_t i = 0; i < call.keys.size(0); ++i) {
      const int64_t at = i + call.halo;
      const bool first = call.positions[static_cast<size_t>(at - 1)] < 0;
      const float* before = first ? nullptr : rows + (at - 1) * kWidth;
      const auto side = [&](int what, const TensorView& to) {
        rebuild_side(what, call.layer, rows + at * kWidth, before, ids[at], to.size(1) * to.size(2),
                     reinterpret_cast<float*>(to.at(i)));
      };
      side(kKey, call.keys);
      side(kValue, call.values);
    }
  }
};

}  // namespace

void register_goldfinch_like(Registry& registry) {
  registry.add(Method{.name = "goldfinch_like",
                      .summary = "One short row and an id per token for all layers.",
                      .capabilities =
                          [](const Setup&) {
                            return Capabilities{.needs = Needs::hidden | Needs::token_ids,
                                                .chunk_separable = false,
                                                .unrotated_keys = true};
                          },
                      .stages =
                          [](const Setup& setup) {
                            return Stages{.project = std::make_shared<Shared>(*setup.shape)};
                          }});
}

}  // namespace kvlab::test
