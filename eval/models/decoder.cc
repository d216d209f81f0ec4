#include "eval/models/decoder.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/torch.h"
#include "eval/models/norm.h"
#include "eval/models/rotate.h"

namespace kvlab {
namespace {

/// Whether LibTorch multiplies matrices of float16 by the CPU's own instructions.  Elsewhere it
/// takes one dot product after the other: 21 GFLOP/s where float32 reaches 80 (one core of a Zen
/// 4).
bool multiplies_float16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512fp16") != 0;
#else
  return true;
#endif
}

constexpr int64_t kWideRows = 16;        // from here on widening the weights pays
constexpr int64_t kWideFeatures = 1024;  // widened at the same time
constexpr int64_t kMlpRows = 1024;       // in the MLP at the same time

/// x weight^T + bias.
at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias = std::nullopt) {
  static const bool kInHardware = multiplies_float16();
  if (x.scalar_type() != at::kHalf || kInHardware || x.size(0) < kWideRows)
    return at::linear(x, weight, bias);
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options());
  for (int64_t first = 0; first < weight.size(0); first += kWideFeatures) {
    const int64_t n = std::min(kWideFeatures, weight.size(0) - first);
    at::Tensor part = at::linear(wide, weight.narrow(0, first, n).to(at::kFloat));
    if (bias) part.add_(bias->narrow(0, first, n));
    out.narrow(1, first, n).copy_(part);
  }
  return out;
}

struct TorchLinear {
  at::Tensor weight{};
  std::optional<at::Tensor> bias{};

  explicit TorchLinear(const Linear& linear) : weight(to_torch(linear.weight.view)) {
    if (linear.bias.view) bias = to_torch(linear.bias.view);
  }
  at::Tensor operator()(const at::Tensor& x) const { return multiply(x, weight, bias); }
};

/// LibTorch's names for a block's weights, made once.
struct TorchBlock {
  TorchLinear query, key, value, output, gate, up, down;
  explicit TorchBlock(const DecoderBlock& b)
      : query(b.query),
        key(b.key),
        value(b.value),
        output(b.output),
        gate(b.gate),
        up(b.up),
        down(b.down) {}
};

at::Tensor ids_tensor(std::span<const int32_t> ids) {
  return at::from_blob(const_cast<int32_t*>(ids.data()), {static_cast<int64_t>(ids.size())},
                       at::kInt);
}

void for_each_tensor(const DecoderBlock& b, const std::function<void(const Tensor&)>& visit) {
  for (const Tensor* t : {&b.attention_norm, &b.mlp_norm, &b.attention_norm_after,
                          &b.mlp_norm_after, &b.query_norm, &b.key_norm})
    visit(*t);
  for (const Linear* l : {&b.query, &b.key, &b.value, &b.output, &b.gate, &b.up, &b.down}) {
    visit(l->weight);
    visit(l->bias);
  }
}

void for_each_tensor(const DecoderWeights& w, const std::function<void(const Tensor&)>& visit) {
  for (const Tensor* t : {&w.embedding, &w.head, &w.final_norm}) visit(*t);
  for (const DecoderBlock& block : w.blocks) for_each_tensor(block, visit);
}

}  // namespace

struct Decoder::Impl {
  DecoderConfig config;
  DecoderWeights weights;
  at::Tensor embedding{}, head{};
  std::vector<TorchBlock> blocks{};

  Impl(DecoderConfig c, DecoderWeights w);

  at::Tensor norm(const at::Tensor& x, const Tensor& weight) const;
  void norm_heads(at::Tensor& x, const Tensor& weight) const;
  at::Tensor embed(std::span<const int32_t> ids) const;
  at::Tensor heads(const TorchLinear& projection, const at::Tensor& x, int count) const;
  at::Tensor attended(int layer, const Input& input, const Rotation& rotation, const at::Tensor& x,
                      Attention& attention) const;
  at::Tensor mlp(const TorchBlock& block, const at::Tensor& x) const;
  void add_attention(int layer, const at::Tensor& attended, at::Tensor& hidden) const;
  void add_mlp(int layer, at::Tensor& hidden) const;
  void give_logits(const at::Tensor& hidden, const TakeLogits& take) const;
};

Decoder::Impl::Impl(DecoderConfig c, DecoderWeights w)
    : config(std::move(c)), weights(std::move(w)) {
  KVLAB_CHECK(static_cast<int>(weights.blocks.size()) == config.num_layers);
  embedding = to_torch(weights.embedding.view);
  head = weights.head.view ? to_torch(weights.head.view) : embedding;
  for (const DecoderBlock& block : weights.blocks) blocks.emplace_back(block);
}

at::Tensor Decoder::Impl::norm(const at::Tensor& x, const Tensor& weight) const {
  at::Tensor out = at::empty_like(x);
  rms_norm(view_of(x), weight.view, config.norm_eps, config.norm_form, view_of(out));
  return out;
}

void Decoder::Impl::norm_heads(at::Tensor& x, const Tensor& weight) const {
  rms_norm(view_of(x), weight.view, config.norm_eps, config.norm_form, view_of(x));
}

at::Tensor Decoder::Impl::embed(std::span<const int32_t> ids) const {
  at::Tensor rows = at::embedding(embedding, ids_tensor(ids));
  // The scale itself is rounded to the run dtype, as it was in training.
  if (config.embedding_scale != 1)
    rows.mul_(at::empty({}, embedding.options()).fill_(config.embedding_scale));
  return rows;
}

at::Tensor Decoder::Impl::heads(const TorchLinear& projection, const at::Tensor& x,
                                int count) const {
  return projection(x).view({x.size(0), count, config.head_dim});
}

/// The layer's attention output [R, H * d], before the output projection.
at::Tensor Decoder::Impl::attended(int layer, const Input& input, const Rotation& rotation,
                                   const at::Tensor& x, Attention& attention) const {
  const TorchBlock& block = blocks[static_cast<size_t>(layer)];
  const DecoderBlock& weight = weights.blocks[static_cast<size_t>(layer)];
  const Needs needs = attention.needs(layer);
  Append given{.layer = layer, .rows = input.rows};

  at::Tensor queries = heads(block.query, x, config.num_heads);
  if (config.qk_norm) norm_heads(queries, weight.query_norm);
  at::Tensor keys, rotated, values;
  if (has(needs, Needs::keys) || has(needs, Needs::keys_pre_rope)) {
    keys = heads(block.key, x, config.num_kv_heads);
    if (config.qk_norm) norm_heads(keys, weight.key_norm);
    if (has(needs, Needs::keys)) {
      rotated = has(needs, Needs::keys_pre_rope) ? at::empty_like(keys) : keys;
      rotation.apply(view_of(keys), view_of(rotated));
      given.keys = view_of(rotated);
    }
    if (has(needs, Needs::keys_pre_rope)) given.keys_pre_rope = view_of(keys);
  }
  if (has(needs, Needs::values)) {
    values = heads(block.value, x, config.num_kv_heads);
    given.values = view_of(values);
  }
  if (has(needs, Needs::hidden)) given.hidden = view_of(x);
  if (has(needs, Needs::queries)) given.queries = view_of(queries);
  if (has(needs, Needs::token_ids)) given.token_ids = input.token_ids;

  at::Tensor out = at::empty_like(queries);
  attention.attend(given, view_of(queries), view_of(out));
  return out.view({x.size(0), int64_t{config.num_heads} * config.head_dim});
}

at::Tensor Decoder::Impl::mlp(const TorchBlock& block, const at::Tensor& x) const {
  at::Tensor gate = block.gate(x);
  switch (config.activation) {
    case Activation::silu:
      at::silu_(gate);
      break;
    case Activation::gelu:
      at::gelu_(gate, "none");
      break;
    case Activation::gelu_tanh:
      at::gelu_(gate, "tanh");
      break;
  }
  gate.mul_(block.up(x));
  return block.down(gate);
}

void Decoder::Impl::add_attention(int layer, const at::Tensor& attended, at::Tensor& hidden) const {
  const size_t i = static_cast<size_t>(layer);
  at::Tensor out = blocks[i].output(attended);
  if (config.norms_after) out = norm(out, weights.blocks[i].attention_norm_after);
  hidden.add_(out);
}

/// In blocks of rows, because a row of the MLP's inside is several times as wide as one of
/// `hidden`.
void Decoder::Impl::add_mlp(int layer, at::Tensor& hidden) const {
  const size_t i = static_cast<size_t>(layer);
  for (int64_t first = 0; first < hidden.size(0); first += kMlpRows) {
    at::Tensor rows = hidden.narrow(0, first, std::min(kMlpRows, hidden.size(0) - first));
    at::Tensor out = mlp(blocks[i], norm(rows, weights.blocks[i].mlp_norm));
    if (config.norms_after) out = norm(out, weights.blocks[i].mlp_norm_after);
    rows.add_(out);
  }
}

/// Rounded to the run dtype before they become float32, soft-cap included: the logits that the
/// published numbers of these models come from.
void Decoder::Impl::give_logits(const at::Tensor& hidden, const TakeLogits& take) const {
  for (int64_t first = 0; first < hidden.size(0); first += kLogitsRows) {
    const int64_t rows = std::min(kLogitsRows, hidden.size(0) - first);
    at::Tensor logits = multiply(norm(hidden.narrow(0, first, rows), weights.final_norm), head);
    if (config.logits_softcap > 0)
      logits.div_(config.logits_softcap).tanh_().mul_(config.logits_softcap);
    const at::Tensor block = logits.to(at::kFloat);
    take(first, view_of(block));
  }
}

Decoder::Decoder(DecoderConfig config, DecoderWeights weights)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(weights))) {}
Decoder::~Decoder() = default;

const DecoderConfig& Decoder::config() const { return impl_->config; }
const DecoderWeights& Decoder::weights() const { return impl_->weights; }
Dtype Decoder::dtype() const { return impl_->weights.embedding.view.dtype; }

int64_t Decoder::weight_bytes() const {
  int64_t bytes = 0;
  for_each_tensor(impl_->weights, [&bytes](const Tensor& t) {
    if (t.view) bytes += t.view.numel() * size_of(t.view.dtype);
  });
  return bytes;
}

void Decoder::check(const Input& input) const {
  const DecoderConfig& config = impl_->config;
  const int64_t rows = input.rows.size();
  KVLAB_REQUIRE(static_cast<int64_t>(input.token_ids.size()) == rows, "E_SHAPE", config.family,
                ": ", input.token_ids.size(), " token ids for ", rows, " rows");
  for (size_t i = 0; i < input.token_ids.size(); ++i)
    KVLAB_REQUIRE(input.token_ids[i] >= 0 && input.token_ids[i] < config.vocab_size, "E_POSITION",
                  config.family, ": token id ", input.token_ids[i], " of row ", i,
                  " is outside the vocabulary, 0..", config.vocab_size - 1);
  if (config.rope_positions >= 0)
    for (const int32_t position : input.rows.positions)
      KVLAB_REQUIRE(position < config.rope_positions, "E_POSITION", config.family, ": position ",
                    position,
                    " needs LongRoPE's frequencies for long sequences, this model was "
                    "opened with those for sequences up to ",
                    config.rope_positions, "; open it with \"longrope\": \"long\"");
  for (size_t i = 0; i < input.wanted.size(); ++i)
    KVLAB_REQUIRE(
        input.wanted[i] >= (i == 0 ? 0 : input.wanted[i - 1] + 1) && input.wanted[i] < rows,
        "E_SHAPE", config.family, ": wanted row ", input.wanted[i], " is not ascending in 0..",
        rows - 1);
}

void Decoder::run(const Input& input, Attention& attention, const TakeLogits& take) const {
  if (input.rows.size() == 0) return;
  const c10::InferenceMode inference;
  const Impl& impl = *impl_;
  const Rotation rotation(impl.config.rope, input.rows.positions);
  at::Tensor hidden = impl.embed(input.token_ids);
  const int last = impl.config.num_layers - 1;
  for (int layer = 0; layer <= last; ++layer) {
    const Tensor& weight = impl.weights.blocks[static_cast<size_t>(layer)].attention_norm;
    at::Tensor attended =
        impl.attended(layer, input, rotation, impl.norm(hidden, weight), attention);
    if (layer == last) {  // nobody reads the other rows any more
      if (input.wanted.empty()) return;
      const at::Tensor wanted = ids_tensor(input.wanted);
      attended = attended.index_select(0, wanted);
      hidden = hidden.index_select(0, wanted);
    }
    impl.add_attention(layer, attended, hidden);
    impl.add_mlp(layer, hidden);
  }
  impl.give_logits(hidden, take);
}

}  // namespace kvlab
