#pragma once
// A network whose weights, biases and inputs a test chooses: what offline steps see of it, and its
// pass over a Cache.  Everything in double, from the words of core/model_access.h and core/chunk.h;
// what it hands over is rounded to float32.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/cache.h"
#include "core/model_access.h"

namespace kvlab::test {

struct FakeConfig {
  int layers = 1, heads = 4, kv_heads = 4, head_dim = 8, width = 32;
  Layer::Kind kind = Layer::Kind::self;
  Rope::Style rope = Rope::Style::half_split;
  int rotary_dim = 0;  // 0: all of head_dim
  bool key_bias = false, value_bias = false, sink = false, alibi = false;
  int64_t window_left = -1;
  double softcap = 0;
  int64_t tokens = 320;  // that it knows; token t enters layer l as row t of `hidden`
  unsigned seed = 1;
};

/// One layer, row-major.
struct FakeLayer {
  std::vector<float> query{}, key{}, value{};                 // [out, D]
  std::vector<float> query_bias{}, key_bias{}, value_bias{};  // [out], empty: none
  std::vector<float> hidden{};                                // [tokens, D]
  std::vector<float> sinks{};                                 // [H], empty: none
};

class FakeModel final : public ModelAccess {
 public:
  explicit FakeModel(const FakeConfig& config);

  const ModelShape& shape() const override { return shape_; }
  TensorView weight(std::string_view role, int layer) const override;
  void visit(std::span<const int32_t> tokens,
             const std::function<void(const Tap&)>& tap) const override;
  double loss(std::span<const int32_t>, const Attention&) override { return 0; }

  ModelShape& shape() { return shape_; }
  FakeLayer& layer(int l) { return layers_[static_cast<size_t>(l)]; }
  const FakeLayer& layer(int l) const { return layers_[static_cast<size_t>(l)]; }
  const FakeConfig& config() const { return config_; }

  /// Features of head `head` of a projection of token t, with its bias; not rotated.
  std::vector<double> query(int layer, int head, int64_t t) const;
  std::vector<double> key(int layer, int head, int64_t t) const;
  std::vector<double> value(int layer, int head, int64_t t) const;

 private:
  FakeConfig config_;
  ModelShape shape_{};
  std::vector<FakeLayer> layers_{};
};

/// x turned by RoPE at a position, in double.
void turn(const Rope& rope, double position, std::vector<double>& x);

/// The artifact of `kvlab prepare slim` with these parameters, on tokens [0, calibration).
Artifact prepare_slim(FakeModel& model, const Json& params, int64_t calibration = 320);

/// A cache of slim with an artifact, `others` composed after it.
struct SlimCache {
  SlimCache(FakeModel& model, const Artifact& artifact, const Json& others = Json::array(),
            Dtype run_dtype = Dtype::f32, Where where = {});
  SlimCache(FakeModel& model, const Json& params) : SlimCache(model, prepare_slim(model, params)) {}

  /// One pass of tokens [positions) at the same positions; outputs of layer l, [H dv] per token,
  /// are written at their positions of out[l].
  void pass(SeqId sequence, Range positions, ReadPolicy read = ReadPolicy::stored,
            int64_t token_offset = 0);
  std::vector<std::vector<float>> out{};

  FakeModel& model;
  Registry registry{};
  std::unique_ptr<Cache> cache{};
};

/// All tokens in passes of the given lengths; outputs of all layers.
std::vector<std::vector<float>> run_slim(FakeModel& model, const Json& params,
                                         const std::vector<int64_t>& lengths);

/// Root mean square of have - want over that of want, all layers together.
double relative_error(const std::vector<std::vector<float>>& have,
                      const std::vector<std::vector<double>>& want);

}  // namespace kvlab::test
