#include "eval/models/decoder.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "core/error.h"
#include "core/torch.h"
#include "eval/models/norm.h"
#include "eval/models/rotate.h"
#include "eval/models/torch_parts.h"

namespace kvlab {
namespace {

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

int64_t bytes_of(const DecoderBlock& b) {
  int64_t bytes = 0;
  for (const Tensor* t : {&b.attention_norm, &b.mlp_norm, &b.attention_norm_after,
                          &b.mlp_norm_after, &b.query_norm, &b.key_norm})
    bytes += bytes_of(*t);
  for (const Linear* l : {&b.query, &b.key, &b.value, &b.output, &b.gate, &b.up, &b.down})
    bytes += bytes_of(*l);
  return bytes;
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
  at::Tensor logits(const at::Tensor& hidden) const;
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
  activate(config.activation, gate);
  gate.mul_(block.up(x));
  return block.down(gate);
}

void Decoder::Impl::add_attention(int layer, const at::Tensor& attended, at::Tensor& hidden) const {
  const size_t i = static_cast<size_t>(layer);
  at::Tensor out = blocks[i].output(attended);
  if (config.norms_after) out = norm(out, weights.blocks[i].attention_norm_after);
  hidden.add_(out);
}

void Decoder::Impl::add_mlp(int layer, at::Tensor& hidden) const {
  const size_t i = static_cast<size_t>(layer);
  in_blocks_of_rows(hidden, [&](at::Tensor& rows) {
    at::Tensor out = mlp(blocks[i], norm(rows, weights.blocks[i].mlp_norm));
    if (config.norms_after) out = norm(out, weights.blocks[i].mlp_norm_after);
    rows.add_(out);
  });
}

/// The soft-cap, too, in the run dtype.
at::Tensor Decoder::Impl::logits(const at::Tensor& hidden) const {
  at::Tensor logits = multiply(norm(hidden, weights.final_norm), head);
  if (config.logits_softcap > 0)
    logits.div_(config.logits_softcap).tanh_().mul_(config.logits_softcap);
  return logits;
}

Decoder::Decoder(DecoderConfig config, DecoderWeights weights)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(weights))) {}
Decoder::~Decoder() = default;

const DecoderConfig& Decoder::config() const { return impl_->config; }
const DecoderWeights& Decoder::weights() const { return impl_->weights; }
Dtype Decoder::dtype() const { return impl_->weights.embedding.view.dtype; }

int64_t Decoder::weight_bytes() const {
  const DecoderWeights& w = impl_->weights;
  int64_t bytes = 0;
  for (const Tensor* t : {&w.embedding, &w.head, &w.final_norm}) bytes += bytes_of(*t);
  for (const DecoderBlock& block : w.blocks) bytes += bytes_of(block);
  return bytes;
}

void Decoder::check(const Input& input) const {
  const DecoderConfig& config = impl_->config;
  check_input(config.family, input, config.vocab_size);
  if (config.rope_positions < 0) return;
  for (const int32_t position : input.rows.positions)
    KVLAB_REQUIRE(position < config.rope_positions, "E_POSITION", config.family, ": position ",
                  position,
                  " needs LongRoPE's frequencies for long sequences, this model was "
                  "opened with those for sequences up to ",
                  config.rope_positions, "; open it with \"longrope\": \"long\"");
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
  give_logits(hidden, [&impl](const at::Tensor& part) { return impl.logits(part); }, take);
}

}  // namespace kvlab
