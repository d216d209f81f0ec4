#include "methods/slim/moments.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "core/error.h"
#include "core/torch.h"

namespace kvlab::slim {
namespace {

/// Rows kept of each layer: 16384 rows of 4096 bfloat16 numbers are 128 MiB.
constexpr int64_t kKeptRows = 16384;
constexpr int64_t kFewestTokens = 8;

/// One layer's inputs while the text runs through.
class Gatherer {
 public:
  Gatherer(int64_t width, int64_t tokens)
      : boundary_(tokens - tokens / 4),
        stride_((tokens + kKeptRows - 1) / kKeptRows),
        sum_(at::zeros({width, width}, at::kDouble)) {}

  /// x [T, D]: a layer's rows of the tokens [first, first + size) of the text.  Of a network with
  /// an encoder they are fewer: its two halves share a sequence's tokens.
  void take(int64_t first, int64_t size, const at::Tensor& x) {
    const int64_t learned = std::clamp<int64_t>(boundary_ - first, 0, size) * x.size(0) / size;
    if (learned > 0) {
      const at::Tensor rows = x.narrow(0, 0, learned).to(at::kDouble);
      sum_.addmm_(rows.t(), rows);
      count_ += learned;
    }
    for (int64_t i = (stride_ - first % stride_) % stride_; i < x.size(0); i += stride_)
      (i < learned ? learned_ : held_out_).push_back(x.narrow(0, i, 1).clone());
  }
  Inputs result() const {
    return {.covariance = sum_ / static_cast<double>(count_),
            .learned = at::cat(learned_),
            .held_out = at::cat(held_out_)};
  }

 private:
  int64_t boundary_, stride_, count_ = 0;
  at::Tensor sum_;
  std::vector<at::Tensor> learned_{}, held_out_{};
};

}  // namespace

std::vector<Inputs> observe_inputs(const Calibration& calibration, int64_t length) {
  const std::span<const int32_t> tokens = calibration.tokens;
  int64_t count = std::ssize(tokens);
  if (count == 0) return {};
  KVLAB_REQUIRE(count >= kFewestTokens, "E_CONFIG", "slim: ", count,
                " calibration tokens; at least 4 for each number of a key row are advised, and ",
                kFewestTokens, " are needed");
  const ModelShape& shape = calibration.model->shape();
  if (shape.max_positions > 0) length = std::min(length, shape.max_positions);
  // What is left may be too short for a sequence: a source and a target need a token each.
  if (count > length && count % length < kFewestTokens) count -= count % length;
  std::vector<Gatherer> gatherers;  // not copies of one: tensors are shared by copying
  for (size_t i = 0; i < shape.layers.size(); ++i) gatherers.emplace_back(shape.width, count);
  for (int64_t first = 0; first < count; first += length) {
    const int64_t size = std::min(length, count - first);
    calibration.model->visit(
        tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(size)), [&](const Tap& tap) {
          gatherers[static_cast<size_t>(tap.layer)].take(first, size, to_torch(tap.hidden));
        });
    if (calibration.progress)
      calibration.progress(0.5 * static_cast<double>(first + size) / static_cast<double>(count),
                           "reading the calibration text");
  }
  std::vector<Inputs> all;
  for (const Gatherer& one : gatherers) all.push_back(one.result());
  return all;
}

}  // namespace kvlab::slim
