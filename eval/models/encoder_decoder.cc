#include "eval/models/encoder_decoder.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/torch.h"
#include "eval/models/distance_buckets.h"
#include "eval/models/norm.h"
#include "eval/models/torch_parts.h"

namespace kvlab {
namespace {

constexpr int64_t kEncoderRows = 256;  // of the encoder, whose biases exist at the same time

struct TorchAttention {
  TorchLinear query, key, value, output;
  explicit TorchAttention(const AttentionWeights& w)
      : query(w.query), key(w.key), value(w.value), output(w.output) {}
};

struct TorchMlp {
  std::optional<TorchLinear> gate{};
  TorchLinear up, down;
  explicit TorchMlp(const MlpWeights& w) : up(w.up), down(w.down) {
    if (w.gate.weight.view) gate.emplace(w.gate);
  }
};

struct TorchEncoderBlock {
  TorchAttention attention;
  TorchMlp mlp;
  explicit TorchEncoderBlock(const EncoderBlock& b) : attention(b.attention), mlp(b.mlp) {}
};

struct TorchCrossBlock {
  TorchAttention self, cross;
  TorchMlp mlp;
  explicit TorchCrossBlock(const CrossBlock& b) : self(b.self), cross(b.cross), mlp(b.mlp) {}
};

int64_t bytes_of(const NormWeights& w) { return bytes_of(w.weight) + bytes_of(w.bias); }

int64_t bytes_of(const AttentionWeights& w) {
  return bytes_of(w.norm) + bytes_of(w.query) + bytes_of(w.key) + bytes_of(w.value) +
         bytes_of(w.output);
}

int64_t bytes_of(const MlpWeights& w) {
  return bytes_of(w.norm) + bytes_of(w.gate) + bytes_of(w.up) + bytes_of(w.down);
}

at::Tensor in_heads(const at::Tensor& x, const StackConfig& stack) {
  return x.view({x.size(0), stack.num_heads, stack.head_dim});
}

/// Memory of the fields that are computed.
struct SiteRows {
  at::Tensor keys{}, values{};
};

/// The fields of `needs` that a site stores of rows x [R, D].
SiteRows give_rows(const TorchAttention& weight, const StackConfig& stack, const at::Tensor& x,
                   Needs needs, Append& given) {
  SiteRows rows;
  if (has(needs, Needs::keys) || has(needs, Needs::keys_pre_rope)) {
    rows.keys = in_heads(weight.key(x), stack);  // nothing is rotated
    if (has(needs, Needs::keys)) given.keys = view_of(rows.keys);
    if (has(needs, Needs::keys_pre_rope)) given.keys_pre_rope = view_of(rows.keys);
  }
  if (has(needs, Needs::values)) {
    rows.values = in_heads(weight.value(x), stack);
    given.values = view_of(rows.values);
  }
  if (has(needs, Needs::hidden)) given.hidden = view_of(x);
  return rows;
}

}  // namespace

struct EncoderDecoder::Impl {
  EncoderDecoderConfig config;
  EncoderDecoderWeights weights;
  at::Tensor embedding{}, head{}, encoder_distances{}, decoder_bias{};
  at::ScalarType run{}, residual{};
  std::vector<TorchEncoderBlock> encoder{};
  std::vector<TorchCrossBlock> decoder{};

  Impl(EncoderDecoderConfig c, EncoderDecoderWeights w);

  at::Tensor norm(const at::Tensor& x, const NormWeights& weight) const;
  at::Tensor embed(std::span<const int32_t> ids) const;
  at::Tensor embed_features(const TensorView& features) const;
  at::Tensor encoder_attention(const TorchAttention& weight, const at::Tensor& x,
                               const at::Tensor& bias) const;
  at::Tensor attended(int site, const ForwardInput& input, const at::Tensor& x,
                      Attention& attention) const;
  void add_mlp(const TorchMlp& mlp, const NormWeights& weight, at::Tensor& hidden) const;
  at::Tensor logits(const at::Tensor& hidden) const;
};

EncoderDecoder::Impl::Impl(EncoderDecoderConfig c, EncoderDecoderWeights w)
    : config(std::move(c)), weights(std::move(w)) {
  KVLAB_CHECK(static_cast<int>(weights.encoder.size()) == config.encoder.num_layers &&
              static_cast<int>(weights.decoder.size()) == config.decoder.num_layers);
  embedding = to_torch(weights.embedding.view);
  head = weights.head.view ? to_torch(weights.head.view) : embedding;
  run = embedding.scalar_type();
  // T5 was trained in bfloat16; what its blocks add up to overflows float16.
  const bool overflows = config.norm == EncoderDecoderConfig::Norm::rms && run == at::kHalf;
  residual = overflows ? at::kFloat : run;
  for (const EncoderBlock& block : weights.encoder) encoder.emplace_back(block);
  for (const CrossBlock& block : weights.decoder) decoder.emplace_back(block);
  if (!config.has_distance_bias()) return;
  encoder_distances = to_torch(weights.encoder_distances.view);
  const int64_t n = config.max_distance + 1;  // key - query: -max_distance ... 0, turned round
  decoder_bias =
      bias_by_distance(to_torch(weights.decoder_distances.view),
                       {.count = config.num_buckets, .max_distance = config.max_distance}, 1 - n, n)
          .flip(1)
          .contiguous();
}

at::Tensor EncoderDecoder::Impl::norm(const at::Tensor& x, const NormWeights& weight) const {
  const at::Tensor scale = to_torch(weight.weight.view);
  if (config.norm == EncoderDecoderConfig::Norm::layer)
    return at::layer_norm(x, {x.size(-1)}, scale, to_torch(weight.bias.view), config.norm_eps);
  if (residual == run) {
    at::Tensor out = at::empty_like(x);
    rms_norm(view_of(x), weight.weight.view, config.norm_eps, NormForm::weight, view_of(out));
    return out;
  }
  const at::Tensor mean = x.square().mean(-1, /*keepdim=*/true);
  return x.mul(mean.add(config.norm_eps).rsqrt()).to(run).mul(scale);
}

at::Tensor EncoderDecoder::Impl::embed(std::span<const int32_t> ids) const {
  return at::embedding(embedding, ids_tensor(ids)).to(residual);
}

/// Two convolutions over time, the second at every other frame.
at::Tensor EncoderDecoder::Impl::embed_features(const TensorView& features) const {
  at::Tensor x = to_torch(features).to(run).unsqueeze(0);
  for (const auto& [conv, stride] : {std::pair{&weights.conv1, 1}, {&weights.conv2, 2}}) {
    x = at::conv1d(x, to_torch(conv->weight.view), to_torch(conv->bias.view), stride,
                   /*padding=*/1);
    activate(Activation::gelu, x);
  }
  const at::Tensor rows = x.squeeze(0).transpose(0, 1).contiguous();
  return rows.add(to_torch(weights.encoder_positions.view).narrow(0, 0, rows.size(0)));
}

/// Of all rows over all rows; bias [H, 2 S - 1] by key position - query position + S - 1, or
/// absent.
at::Tensor EncoderDecoder::Impl::encoder_attention(const TorchAttention& weight,
                                                   const at::Tensor& x,
                                                   const at::Tensor& bias) const {
  const int64_t rows = x.size(0);
  const auto heads_first = [&](const TorchLinear& projection) {
    return in_heads(projection(x), config.encoder).transpose(0, 1).unsqueeze(0);
  };
  const at::Tensor q = heads_first(weight.query), k = heads_first(weight.key),
                   v = heads_first(weight.value);
  at::Tensor out = at::empty({rows, config.encoder.projected()}, x.options());
  at::Tensor out_heads = in_heads(out, config.encoder);
  const int64_t step = bias.defined() ? kEncoderRows : rows;
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t n = std::min(step, rows - first);
    std::optional<at::Tensor> mask;
    if (bias.defined()) {  // row i reads bias[S - 1 - i ...]: windows of it, from the last row up
      const at::Tensor windows = bias.unfold(1, rows, 1);
      mask = windows.narrow(1, rows - first - n, n).flip(1).unsqueeze(0).to(run);
    }
    const at::Tensor read =
        at::scaled_dot_product_attention(q.narrow(2, first, n), k, v, mask, /*dropout_p=*/0,
                                         /*is_causal=*/false, config.scale_of(config.encoder));
    out_heads.narrow(0, first, n).copy_(read.squeeze(0).transpose(0, 1));
  }
  return weight.output(out);
}

/// A decoder site's attention output [R, H * d], before the output projection.
at::Tensor EncoderDecoder::Impl::attended(int site, const ForwardInput& input, const at::Tensor& x,
                                          Attention& attention) const {
  const TorchCrossBlock& block = decoder[static_cast<size_t>(site / 2)];
  const bool crosses = site == cross_site(site / 2);
  const TorchAttention& weight = crosses ? block.cross : block.self;
  const Needs needs = crosses ? Needs::none : attention.needs(site);
  Append given{.layer = site, .rows = input.rows};
  const SiteRows rows = give_rows(weight, config.decoder, x, needs, given);
  const at::Tensor queries = in_heads(weight.query(x), config.decoder);
  if (has(needs, Needs::queries)) given.queries = view_of(queries);
  if (has(needs, Needs::token_ids)) given.token_ids = input.token_ids;
  at::Tensor out = at::empty_like(queries);
  attention.attend(given, view_of(queries), view_of(out));
  return out.view({x.size(0), config.decoder.projected()});
}

void EncoderDecoder::Impl::add_mlp(const TorchMlp& mlp, const NormWeights& weight,
                                   at::Tensor& hidden) const {
  in_blocks_of_rows(hidden, [&](at::Tensor& rows) {
    const at::Tensor x = norm(rows, weight);
    at::Tensor inside = mlp.gate ? (*mlp.gate)(x) : mlp.up(x);
    activate(config.activation, inside);
    if (mlp.gate) inside.mul_(mlp.up(x));
    rows.add_(mlp.down(inside.to(mlp.down.weight.scalar_type())));
  });
}

at::Tensor EncoderDecoder::Impl::logits(const at::Tensor& hidden) const {
  at::Tensor x = norm(hidden, weights.decoder_norm);
  if (config.head_scale != 1) x.mul_(config.head_scale);
  return multiply(x, head);
}

EncoderDecoder::EncoderDecoder(EncoderDecoderConfig config, EncoderDecoderWeights weights)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(weights))) {}
EncoderDecoder::~EncoderDecoder() = default;

const EncoderDecoderConfig& EncoderDecoder::config() const { return impl_->config; }
const EncoderDecoderWeights& EncoderDecoder::weights() const { return impl_->weights; }
Dtype EncoderDecoder::dtype() const { return impl_->weights.embedding.view.dtype; }

int64_t EncoderDecoder::weight_bytes() const {
  const EncoderDecoderWeights& w = impl_->weights;
  int64_t bytes =
      bytes_of(w.conv1) + bytes_of(w.conv2) + bytes_of(w.encoder_norm) + bytes_of(w.decoder_norm);
  for (const Tensor* t : {&w.embedding, &w.head, &w.encoder_distances, &w.decoder_distances,
                          &w.encoder_positions, &w.decoder_positions})
    bytes += bytes_of(*t);
  for (const EncoderBlock& b : w.encoder) bytes += bytes_of(b.attention) + bytes_of(b.mlp);
  for (const CrossBlock& b : w.decoder)
    bytes += bytes_of(b.self) + bytes_of(b.cross) + bytes_of(b.mlp);
  return bytes;
}

TensorView EncoderDecoder::distance_bias() const {
  return impl_->decoder_bias.defined() ? view_of(impl_->decoder_bias) : TensorView{};
}

void EncoderDecoder::check(const Source& source) const {
  const EncoderDecoderConfig& config = impl_->config;
  if (config.reads == EncoderInput::token_ids) {
    KVLAB_REQUIRE(!source.features, "E_UNSUPPORTED", config.family,
                  ": its encoder reads tokens, not features");
    KVLAB_REQUIRE(!source.token_ids.empty(), "E_SHAPE", config.family,
                  ": its encoder was given no tokens; it needs at least 1");
    check_tokens(config.family, source.token_ids, config.vocab_size);
    return;
  }
  const TensorView& given = source.features;
  KVLAB_REQUIRE(source.token_ids.empty() && given, "E_UNSUPPORTED", config.family,
                ": its encoder reads features of audio, not tokens");
  KVLAB_REQUIRE(
      given.dtype == Dtype::f32 && given.dims == 2 && given.size(0) == config.num_mel_bins &&
          given.size(1) >= 1 && given.size(1) <= 2 * config.max_source_positions,
      "E_SHAPE", config.family, ": its encoder reads features float32 [", config.num_mel_bins,
      ", frames] of 1 to ", 2 * config.max_source_positions, " frames");
}

Tensor EncoderDecoder::encode(const Source& source) const {
  const c10::InferenceMode inference;
  const Impl& impl = *impl_;
  at::Tensor hidden =
      source.features ? impl.embed_features(source.features) : impl.embed(source.token_ids);
  at::Tensor bias;
  const int64_t rows = hidden.size(0);
  if (impl.config.has_distance_bias())
    bias = bias_by_distance(impl.encoder_distances,
                            {.count = impl.config.num_buckets,
                             .max_distance = impl.config.max_distance,
                             .both_ways = true},
                            1 - rows, 2 * rows - 1);
  for (size_t i = 0; i < impl.encoder.size(); ++i) {
    const EncoderBlock& weight = impl.weights.encoder[i];
    const at::Tensor x = impl.norm(hidden, weight.attention.norm);
    hidden.add_(impl.encoder_attention(impl.encoder[i].attention, x, bias));
    impl.add_mlp(impl.encoder[i].mlp, weight.mlp.norm, hidden);
  }
  return hold("encoded", impl.norm(hidden, impl.weights.encoder_norm));
}

void EncoderDecoder::with_source_rows(int site, const Tensor& encoded, Needs needs,
                                      const std::function<void(const Append&)>& use) const {
  const c10::InferenceMode inference;
  const TorchAttention& weight = impl_->decoder[static_cast<size_t>(site / 2)].cross;
  Append given{.layer = site};
  const SiteRows rows =
      give_rows(weight, impl_->config.decoder, to_torch(encoded.view), needs, given);
  use(given);
}

void EncoderDecoder::check(const ForwardInput& input) const {
  const EncoderDecoderConfig& config = impl_->config;
  check_input(config.family, input, config.vocab_size);
  if (config.has_distance_bias()) return;
  for (const int32_t position : input.rows.positions)
    KVLAB_REQUIRE(position >= 0 && position < config.max_positions, "E_POSITION", config.family,
                  ": position ", position, " is outside the ", config.max_positions,
                  " that the decoder has embeddings of");
}

void EncoderDecoder::run(const ForwardInput& input, Attention& attention,
                         const TakeLogits& take) const {
  if (input.rows.size() == 0) return;
  const c10::InferenceMode inference;
  const Impl& impl = *impl_;
  at::Tensor hidden = impl.embed(input.token_ids);
  if (impl.weights.decoder_positions.view)
    hidden.add_(at::embedding(to_torch(impl.weights.decoder_positions.view),
                              ids_tensor(input.rows.positions)));
  const size_t last = impl.decoder.size() - 1;
  for (size_t i = 0; i <= last; ++i) {
    const CrossBlock& weight = impl.weights.decoder[i];
    const int block = static_cast<int>(i);
    const at::Tensor own =
        impl.attended(self_site(block), input, impl.norm(hidden, weight.self.norm), attention);
    hidden.add_(impl.decoder[i].self.output(own));
    at::Tensor read =
        impl.attended(cross_site(block), input, impl.norm(hidden, weight.cross.norm), attention);
    if (i == last) {  // nobody reads the other rows any more
      if (input.wanted.empty()) return;
      const at::Tensor wanted = ids_tensor(input.wanted);
      read = read.index_select(0, wanted);
      hidden = hidden.index_select(0, wanted);
    }
    hidden.add_(impl.decoder[i].cross.output(read));
    impl.add_mlp(impl.decoder[i].mlp, weight.mlp.norm, hidden);
  }
  give_logits(hidden, [&impl](const at::Tensor& part) { return impl.logits(part); }, take);
}

}  // namespace kvlab
