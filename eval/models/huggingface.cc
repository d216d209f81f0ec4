#include "eval/models/huggingface.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "eval/models/fields.h"
#include "eval/models/weight_reader.h"

namespace kvlab {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";

WeightReader::Bias bias_if(bool present) {
  return present ? WeightReader::Bias::present : WeightReader::Bias::absent;
}

/// Buffers old checkpoints carry, and a head that repeats the embedding it is tied to.
bool is_spare(std::string_view name, const WeightReader& reader, const DecoderConfig& config) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (name != "lm_head.weight" || !config.tied) return false;
  reader.must_repeat(name, kEmbedding, "`tie_word_embeddings` is true");
  return true;
}

/// Rows [first, last) of a weight that holds several projections one above the other.
Linear part(const Tensor& fused, int64_t first, int64_t last) {
  return {.weight = {fused.name, fused.view.rows({first, last}), fused.owner}};
}

void read_projections(WeightReader& reader, const DecoderConfig& c, const std::string& block,
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
    into.query = reader.linear(attention + "q_proj", q, d, bias_if(c.qkv_bias));
    into.key = reader.linear(attention + "k_proj", kv, d, bias_if(c.qkv_bias));
    into.value = reader.linear(attention + "v_proj", kv, d, bias_if(c.qkv_bias));
    into.gate = reader.linear(mlp + "gate_proj", m, d, bias_if(c.mlp_bias));
    into.up = reader.linear(mlp + "up_proj", m, d, bias_if(c.mlp_bias));
  }
  into.output = reader.linear(attention + "o_proj", d, q, bias_if(c.output_bias));
  into.down = reader.linear(mlp + "down_proj", d, m, bias_if(c.mlp_bias));
}

DecoderBlock read_block(WeightReader& reader, const DecoderConfig& c, int index) {
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

DecoderWeights read_weights(WeightReader& reader, const DecoderConfig& c) {
  DecoderWeights weights{.embedding = reader.read(kEmbedding, {c.vocab_size, c.width})};
  for (int i = 0; i < c.num_layers; ++i) weights.blocks.push_back(read_block(reader, c, i));
  weights.final_norm = reader.read("model.norm.weight", {c.width});
  if (!c.tied) weights.head = reader.read("lm_head.weight", {c.vocab_size, c.width});
  reader.finish(c.family, [&](std::string_view name) { return is_spare(name, reader, c); });
  return weights;
}

}  // namespace

namespace {

/// A file of the directory, and what errors call it.
struct ConfigFile {
  Json json{};
  std::string where{};
};
ConfigFile read_config(const std::filesystem::path& path) {
  return {read_json(path), printable(path.native(), 400)};
}

/// What the model was meant to be run with lists more end tokens than the config does.
template <class Config>
Config with_generation(const HuggingFaceSpec& spec, Config config) {
  const std::filesystem::path path = spec.directory / "generation_config.json";
  if (!std::filesystem::exists(path)) return config;
  const ConfigFile file = read_config(path);
  const Fields fields(file.json, file.where);
  if (fields.has("eos_token_id")) config.end_tokens = end_tokens_of(fields);
  return config;
}

/// E_UNSUPPORTED: neither kind of network.
bool has_encoder(const HuggingFaceSpec& spec) {
  const ConfigFile file = read_config(spec.directory / "config.json");
  if (is_encoder_decoder(file.json, file.where)) return true;
  if (is_decoder(file.json, file.where)) return false;
  std::vector<std::string> supported = decoder_families();
  std::ranges::copy(encoder_decoder_families(), std::back_inserter(supported));
  refuse_network(Fields(file.json, file.where), supported);
}

WeightReader reader_of(const WeightFiles& files, const HuggingFaceSpec& spec,
                       std::optional<Dtype> stated, const std::string& embedding) {
  const Dtype stored = stated ? *stated : files.tensor(embedding).view.dtype;
  return {files, printable(spec.directory.native(), 400), spec.dtype.value_or(stored)};
}

}  // namespace

DecoderConfig huggingface_config(const HuggingFaceSpec& spec) {
  const ConfigFile file = read_config(spec.directory / "config.json");
  return with_generation(spec, decoder_config(file.json, file.where, spec.longrope));
}

Network read_huggingface(const HuggingFaceSpec& spec) {
  Network network{.config = huggingface_config(spec)};
  const WeightFiles files(spec.directory);
  WeightReader reader = reader_of(files, spec, network.config.dtype, kEmbedding);
  network.weights = read_weights(reader, network.config);
  network.fingerprint = files.fingerprint(canonical(arithmetic_of(network.config)));
  return network;
}

EncoderDecoderConfig huggingface_encoder_decoder_config(const HuggingFaceSpec& spec) {
  const ConfigFile file = read_config(spec.directory / "config.json");
  return with_generation(spec, encoder_decoder_config(file.json, file.where));
}

EncoderDecoderNetwork read_huggingface_encoder_decoder(const HuggingFaceSpec& spec) {
  EncoderDecoderNetwork network{.config = huggingface_encoder_decoder_config(spec)};
  const WeightFiles files(spec.directory);
  WeightReader reader =
      reader_of(files, spec, network.config.dtype, embedding_name(network.config));
  network.weights = read_encoder_decoder_weights(reader, network.config);
  network.fingerprint = files.fingerprint(canonical(arithmetic_of(network.config)));
  return network;
}

ModelOutline huggingface_outline(const HuggingFaceSpec& spec) {
  return has_encoder(spec) ? outline_of(huggingface_encoder_decoder_config(spec))
                           : outline_of(huggingface_config(spec));
}

std::unique_ptr<Model> load_huggingface(const HuggingFaceSpec& spec) {
  return has_encoder(spec) ? make_encoder_decoder_model(read_huggingface_encoder_decoder(spec))
                           : make_decoder_model(read_huggingface(spec));
}

}  // namespace kvlab
