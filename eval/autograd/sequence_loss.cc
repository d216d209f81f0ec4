#include "eval/autograd/sequence_loss.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "eval/autograd/decoder_autograd.h"

namespace kvlab {
namespace {

/// Weights of another dtype are widened for the call.
DecoderTensors in_float32(const Decoder& decoder) {
  DecoderTensors tensors = tensors_of(decoder.config(), decoder.weights());
  for_each_weight(decoder.config(), tensors,
                  [](const std::string&, const auto&, at::Tensor& w) { w = w.to(at::kFloat); });
  return tensors;
}

}  // namespace

double sequence_loss(const Decoder& decoder, std::span<const int32_t> tokens,
                     const ModelAccess::Attention& attention) {
  KVLAB_REQUIRE(tokens.size() >= 2, "E_SHAPE", decoder.config().family, ": a loss of ",
                tokens.size(), " tokens; the first is not predicted, so give at least 2");
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  decoder.check({.rows = {.positions = positions}, .token_ids = tokens});
  const auto n = static_cast<int64_t>(tokens.size());
  const at::Tensor ids = at::empty({1, n}, at::kLong);
  std::ranges::copy(tokens, ids.data_ptr<int64_t>());
  const DecoderAutograd network(decoder.config(), in_float32(decoder), Dtype::f32);
  const at::Tensor hidden = network.hidden(ids.narrow(1, 0, n - 1), attention).flatten(0, 1);
  const at::Tensor shares =
      at::empty({n - 1}, hidden.options()).fill_(1 / static_cast<double>(n - 1));
  const at::Tensor loss = network.loss(hidden, ids.narrow(1, 1, n - 1).flatten(), shares.detach());
  if (loss.requires_grad()) loss.backward();
  return loss.item<double>();
}

}  // namespace kvlab
