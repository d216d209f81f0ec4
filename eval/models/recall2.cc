#include "eval/models/recall2.h"

#include <ATen/core/Tensor.h>

#include <cmath>
#include <string>

#include "core/error.h"
#include "core/torch.h"

namespace kvlab {
namespace {

constexpr int kVocab = 32, kWidth = 128, kHeadDim = 64, kPairs = kHeadDim / 2;
constexpr int kMlpWidth = 8;                                             // all zero
constexpr int kToken = 0, kPrevious = 32, kAnswer = 64, kConstant = 96;  // parts of the residual
constexpr double kTheta = 1e12, kEps = 1e-5;
constexpr double kPreviousLogit = 400, kMatchLogit = 40, kAnswerLogit = 12;
constexpr int kPreviousPairs = 8;  // fast enough to tell neighbouring positions apart
constexpr int kCodePairs = 16;     // from here on pairs hardly turn: position-free codes
constexpr int64_t kMaxPositions = 4096;

/// The root mean square of a row with `ones` entries of 1, the rest 0.
double inverse_rms(int ones) noexcept { return std::sqrt(static_cast<double>(kWidth) / ones); }
const double kNorm1 = inverse_rms(2), kNorm2 = inverse_rms(3), kNorm3 = inverse_rms(4);

/// A matrix written entry by entry in double, rounded once to the run dtype.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns)
      : values_(static_cast<size_t>(rows * columns)), rows_(rows), columns_(columns) {}
  double& operator()(int64_t row, int64_t column) {
    return values_[static_cast<size_t>(row * columns_ + column)];
  }
  Tensor as(Dtype dtype) const {
    const TensorView view = dense_view(values_.data(), Dtype::f64, {rows_, columns_});
    return hold("", to_torch(view).to(scalar_type(dtype), /*non_blocking=*/false, /*copy=*/true));
  }
  Tensor as_vector(Dtype dtype) const {
    const TensorView view = dense_view(values_.data(), Dtype::f64, {rows_ * columns_});
    return hold("", to_torch(view).to(scalar_type(dtype), /*non_blocking=*/false, /*copy=*/true));
  }

 private:
  std::vector<double> values_;
  int64_t rows_, columns_;
};

/// One block's attention: head 0's matrices, the rest of them zero.
struct AttentionMatrices {
  explicit AttentionMatrices(const Recall2Spec& spec)
      : query(int64_t{spec.num_heads} * kHeadDim, kWidth),
        key(int64_t{spec.num_kv_heads} * kHeadDim, kWidth),
        value(int64_t{spec.num_kv_heads} * kHeadDim, kWidth),
        output(kWidth, int64_t{spec.num_heads} * kHeadDim) {}
  Matrix query, key, value, output;
};

/// Looks one position back and copies that token: the logit against position j is
/// 400 mean cos(theta_i (t - 1 - j)).
AttentionMatrices previous_token(const Recall2Spec& spec, const DecoderConfig& config) {
  AttentionMatrices m(spec);
  const double s = std::sqrt(kPreviousLogit * std::sqrt(kHeadDim) / kPreviousPairs);
  for (int i = 0; i < kPreviousPairs; ++i) {
    const double angle = -config.rope.inv_freq[static_cast<size_t>(i)];
    m.key(i, kConstant) = s / kNorm1;
    m.query(i, kConstant) = s * std::cos(angle) / kNorm1;
    m.query(i + kPairs, kConstant) = s * std::sin(angle) / kNorm1;
  }
  for (int u = 0; u < kVocab; ++u) {
    m.value(u, kToken + u) = 1 / kNorm1;
    m.output(kPrevious + u, u) = 1;
  }
  return m;
}

/// Looks for the position whose previous token is this one and copies its token.
AttentionMatrices match(const Recall2Spec& spec) {
  AttentionMatrices m(spec);
  const double s = std::sqrt(kMatchLogit * std::sqrt(kHeadDim));
  for (int u = 0; u < kVocab; ++u) {
    const int code = kCodePairs + u / 2 + (u % 2 == 0 ? 0 : kPairs);
    m.query(code, kToken + u) = s / kNorm2;
    m.key(code, kPrevious + u) = s / kNorm2;
    m.value(u, kToken + u) = 1 / kNorm2;
    m.output(kAnswer + u, u) = 1;
  }
  return m;
}

Tensor ones(Dtype dtype) {
  Matrix m(kWidth, 1);
  for (int c = 0; c < kWidth; ++c) m(c, 0) = 1;
  return m.as_vector(dtype);
}

DecoderBlock block_of(const AttentionMatrices& m, Dtype dtype) {
  return {.attention_norm = ones(dtype),
          .mlp_norm = ones(dtype),
          .query = {.weight = m.query.as(dtype)},
          .key = {.weight = m.key.as(dtype)},
          .value = {.weight = m.value.as(dtype)},
          .output = {.weight = m.output.as(dtype)},
          .gate = {.weight = Matrix(kMlpWidth, kWidth).as(dtype)},
          .up = {.weight = Matrix(kMlpWidth, kWidth).as(dtype)},
          .down = {.weight = Matrix(kWidth, kMlpWidth).as(dtype)}};
}

DecoderWeights weights_of(const Recall2Spec& spec, const DecoderConfig& config) {
  Matrix embedding(kVocab, kWidth), head(kVocab, kWidth);
  for (int t = 0; t < kVocab; ++t) {
    embedding(t, kToken + t) = 1;
    embedding(t, kConstant) = 1;
    head(t, kAnswer + t) = kAnswerLogit / kNorm3;
  }
  return {.embedding = embedding.as(spec.dtype),
          .head = head.as(spec.dtype),
          .final_norm = ones(spec.dtype),
          .blocks = {block_of(previous_token(spec, config), spec.dtype),
                     block_of(match(spec), spec.dtype)}};
}

}  // namespace

DecoderConfig recall2_config(const Recall2Spec& spec) {
  KVLAB_REQUIRE(
      spec.num_heads >= 1 && spec.num_kv_heads >= 1 && spec.num_heads % spec.num_kv_heads == 0,
      "E_CONFIG", "recall2: ", spec.num_kv_heads, " kv heads must divide ", spec.num_heads,
      " heads");
  DecoderConfig config{.family = "recall2",
                       .width = kWidth,
                       .mlp_width = kMlpWidth,
                       .num_layers = 2,
                       .num_heads = spec.num_heads,
                       .num_kv_heads = spec.num_kv_heads,
                       .head_dim = kHeadDim,
                       .vocab_size = kVocab,
                       .max_positions = kMaxPositions,
                       .norm_eps = kEps,
                       .attention_scale = 1 / std::sqrt(static_cast<double>(kHeadDim)),
                       .window_left = {-1, -1},
                       .begin_token = 0};
  config.rope = {.style = Rope::Style::half_split, .rotary_dim = kHeadDim};
  for (int i = 0; i < kPairs; ++i)
    config.rope.inv_freq.push_back(std::pow(kTheta, -static_cast<double>(i) / kPairs));
  return config;
}

Network make_recall2(const Recall2Spec& spec) {
  Network network{.config = recall2_config(spec)};
  network.weights = weights_of(spec, network.config);
  network.fingerprint = shape_of(network.config).fingerprint;  // the weights follow from it
  return network;
}

}  // namespace kvlab
