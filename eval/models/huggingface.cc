#include "eval/models/huggingface.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/torch.h"
#include "eval/models/fields.h"
#include "eval/models/weight_files.h"

namespace kvlab {
namespace {

using Sizes = std::vector<int64_t>;

std::string shown(const Sizes& sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

Sizes sizes_of(const TensorView& view) {
  return {view.sizes.begin(), view.sizes.begin() + view.dims};
}

/// Hands out tensors by name, checked and in the run dtype, and remembers which were asked for.
class Reader {
 public:
  Reader(const WeightFiles& files, std::string where, Dtype dtype)
      : files_(files), where_(std::move(where)), dtype_(dtype) {}

  Tensor read(const std::string& name, const Sizes& sizes) {
    Tensor tensor = files_.tensor(name);
    read_.insert(name);
    const Dtype stored = tensor.view.dtype;
    KVLAB_REQUIRE(sizes_of(tensor.view) == sizes, "E_SHAPE", where_, ": tensor `", name, "` is ",
                  shown(sizes_of(tensor.view)), ", the config says ", shown(sizes));
    KVLAB_REQUIRE(stored == Dtype::f32 || stored == Dtype::f16 || stored == Dtype::bf16,
                  "E_UNSUPPORTED", where_, ": tensor `", name, "` is ", name_of(stored),
                  "; kvlab reads weights of float32, float16 and bfloat16");
    check_finite(tensor.view, where_ + ": tensor `" + name + "`");
    return stored == dtype_ ? tensor : converted(tensor);
  }

  Linear linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    Linear linear{.weight = read(name + ".weight", {out, in})};
    if (bias) linear.bias = read(name + ".bias", {out});
    return linear;
  }

  /// Every tensor of the files must have been read: one that no part of the network uses says that
  /// the config is not this network's.
  void finish(const DecoderConfig& config) const {
    for (const std::string& name : files_.names())
      KVLAB_REQUIRE(read_.contains(name) || is_spare(name, config), "E_WEIGHT", where_,
                    ": tensor `", printable(name), "` belongs to no part of a ", config.family,
                    " network with this config.json");
  }

 private:
  Tensor converted(const Tensor& tensor) const {
    Tensor result = hold(tensor.name, to_torch(tensor.view).to(scalar_type(dtype_)));
    if (dtype_ == Dtype::f16)  // the only conversion that can overflow where the source did not
      check_finite(result.view, where_ + ": tensor `" + tensor.name +
                                    "` as float16 (bfloat16 has float32's range)");
    return result;
  }

  /// Buffers old checkpoints carry, and a head that repeats the embedding it is tied to.
  bool is_spare(std::string_view name, const DecoderConfig& config) const {
    if (name.ends_with(".rotary_emb.inv_freq")) return true;
    if (name != "lm_head.weight" || !config.tied) return false;
    const TensorView head = files_.tensor(name).view;
    const TensorView embedding = files_.tensor("model.embed_tokens.weight").view;
    KVLAB_REQUIRE(head.dtype == embedding.dtype && sizes_of(head) == sizes_of(embedding) &&
                      std::memcmp(head.data, embedding.data,
                                  static_cast<size_t>(head.numel() * size_of(head.dtype))) == 0,
                  "E_WEIGHT", where_,
                  ": `tie_word_embeddings` is true, but lm_head.weight "
                  "differs from model.embed_tokens.weight");
    return true;
  }

  const WeightFiles& files_;
  std::string where_;
  Dtype dtype_;
  std::set<std::string, std::less<>> read_{};
};

/// Rows [first, last) of a weight that holds several projections one above the other.
Linear part(const Tensor& fused, int64_t first, int64_t last) {
  return {.weight = {fused.name, fused.view.rows({first, last}), fused.owner}};
}

void read_projections(Reader& reader, const DecoderConfig& c, const std::string& block,
                      DecoderBlock& into) {
  const int64_t q = int64_t{c.num_heads} * c.head_dim, kv = int64_t{c.num_kv_heads} * c.head_dim;
  const int64_t d = c.width, m = c.mlp_width;
  const std::string attention = block + "self_attn.", mlp = block + "mlp.";
  if (c.fused) {
    const Tensor qkv = reader.read(attention + "qkv_proj.weight", {q + 2 * kv, d});
    into.query = part(qkv, 0, q);
    into.key = part(qkv, q, q + kv);
    into.value = part(qkv, q + kv, q + 2 * kv);
    const Tensor gate_up = reader.read(mlp + "gate_up_proj.weight", {2 * m, d});
    into.gate = part(gate_up, 0, m);
    into.up = part(gate_up, m, 2 * m);
  } else {
    into.query = reader.linear(attention + "q_proj", q, d, c.qkv_bias);
    into.key = reader.linear(attention + "k_proj", kv, d, c.qkv_bias);
    into.value = reader.linear(attention + "v_proj", kv, d, c.qkv_bias);
    into.gate = reader.linear(mlp + "gate_proj", m, d, c.mlp_bias);
    into.up = reader.linear(mlp + "up_proj", m, d, c.mlp_bias);
  }
  into.output = reader.linear(attention + "o_proj", d, q, c.output_bias);
  into.down = reader.linear(mlp + "down_proj", d, m, c.mlp_bias);
}

DecoderBlock read_block(Reader& reader, const DecoderConfig& c, int index) {
  const std::string block = "model.layers." + std::to_string(index) + ".";
  const auto norm = [&](const char* name) { return reader.read(block + name, {c.width}); };
  DecoderBlock into{.attention_norm = norm("input_layernorm.weight")};
  if (c.norms_after) {
    into.attention_norm_after = norm("post_attention_layernorm.weight");
    into.mlp_norm = norm("pre_feedforward_layernorm.weight");
    into.mlp_norm_after = norm("post_feedforward_layernorm.weight");
  } else {
    into.mlp_norm = norm("post_attention_layernorm.weight");
  }
  if (c.qk_norm) {
    into.query_norm = reader.read(block + "self_attn.q_norm.weight", {c.head_dim});
    into.key_norm = reader.read(block + "self_attn.k_norm.weight", {c.head_dim});
  }
  read_projections(reader, c, block, into);
  return into;
}

DecoderWeights read_weights(Reader& reader, const DecoderConfig& c) {
  DecoderWeights weights{.embedding =
                             reader.read("model.embed_tokens.weight", {c.vocab_size, c.width})};
  for (int i = 0; i < c.num_layers; ++i) weights.blocks.push_back(read_block(reader, c, i));
  weights.final_norm = reader.read("model.norm.weight", {c.width});
  if (!c.tied) weights.head = reader.read("lm_head.weight", {c.vocab_size, c.width});
  reader.finish(c);
  return weights;
}

}  // namespace

DecoderConfig huggingface_config(const HuggingFaceSpec& spec) {
  const std::filesystem::path path = spec.directory / "config.json";
  DecoderConfig config =
      decoder_config(read_json(path), printable(path.native(), 400), spec.longrope);
  // What the model was meant to be run with lists more end tokens than the config does.
  const std::filesystem::path generation = spec.directory / "generation_config.json";
  if (std::filesystem::exists(generation)) {
    const Json json = read_json(generation);
    const Fields fields(json, printable(generation.native(), 400));
    if (fields.has("eos_token_id")) config.end_tokens = end_tokens_of(fields);
  }
  return config;
}

Network read_huggingface(const HuggingFaceSpec& spec) {
  Network network{.config = huggingface_config(spec)};
  const WeightFiles files(spec.directory);
  const Dtype stored = network.config.dtype ? *network.config.dtype
                                            : files.tensor("model.embed_tokens.weight").view.dtype;
  Reader reader(files, printable(spec.directory.native(), 400), spec.dtype.value_or(stored));
  network.weights = read_weights(reader, network.config);
  network.fingerprint = files.fingerprint(canonical(arithmetic_of(network.config)));
  return network;
}

}  // namespace kvlab
