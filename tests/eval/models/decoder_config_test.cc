#include "eval/models/decoder_config.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

/// What every config.json holds, and nothing else.
Json sizes(const char* model_type) {
  return {{"model_type", model_type}, {"hidden_size", 64},
          {"intermediate_size", 96},  {"num_hidden_layers", 4},
          {"num_attention_heads", 8}, {"num_key_value_heads", 2},
          {"vocab_size", 100},        {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-6}};
}

Json with(Json config, const Json& more) {
  config.update(more);
  return config;
}

DecoderConfig read(const Json& config) { return decoder_config(config, "config.json"); }

TEST(DecoderConfig, OfLlama) {
  const DecoderConfig c = read(sizes("llama"));
  EXPECT_EQ(c.family, "llama");
  EXPECT_EQ(c.width, 64);
  EXPECT_EQ(c.mlp_width, 96);
  EXPECT_EQ(c.num_heads, 8);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_DOUBLE_EQ(c.attention_scale, 1 / std::sqrt(8.0));
  EXPECT_THAT(c.window_left, ElementsAre(-1, -1, -1, -1));
  EXPECT_EQ(c.activation, Activation::silu);
  EXPECT_FALSE(c.qkv_bias || c.output_bias || c.mlp_bias || c.tied || c.qk_norm || c.fused);
  EXPECT_EQ(c.norm_form, NormForm::weight);

  const DecoderConfig odd = read(with(sizes("llama"), {{"attention_bias", true},
                                                       {"mlp_bias", true},
                                                       {"head_dim", 80},
                                                       {"tie_word_embeddings", true}}));
  EXPECT_TRUE(odd.qkv_bias && odd.output_bias && odd.mlp_bias && odd.tied);
  EXPECT_EQ(odd.head_dim, 80);
  Json multi = sizes("llama");
  multi.erase("num_key_value_heads");
  EXPECT_EQ(read(multi).num_kv_heads, 8);
}

// "A window of W tokens" includes the query's own: W - 1 to its left.
TEST(DecoderConfig, OfMistralHasOneWindowOrNone) {
  EXPECT_THAT(read(with(sizes("mistral"), {{"sliding_window", 100}})).window_left, Each(99));
  EXPECT_THAT(read(with(sizes("mistral"), {{"sliding_window", nullptr}})).window_left, Each(-1));
  EXPECT_THAT(read(sizes("mistral")).window_left, Each(4095));
}

TEST(DecoderConfig, OfQwen2HasBiasesAndWindowsOnlyWhereTheyAreUsed) {
  const DecoderConfig plain = read(with(sizes("qwen2"), {{"sliding_window", 100}}));
  EXPECT_TRUE(plain.qkv_bias);
  EXPECT_FALSE(plain.output_bias);
  EXPECT_THAT(plain.window_left, Each(-1));
  const Json used{{"sliding_window", 100}, {"use_sliding_window", true}, {"max_window_layers", 3}};
  EXPECT_THAT(read(with(sizes("qwen2"), used)).window_left, ElementsAre(-1, -1, -1, 99));
}

TEST(DecoderConfig, OfQwen3NormsHeadsOfAnExplicitSize) {
  const DecoderConfig c = read(with(sizes("qwen3"), {{"head_dim", 48}}));
  EXPECT_TRUE(c.qk_norm);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_EQ(c.head_dim, 48);
  EXPECT_EQ(shape_of(c).layers[0].qk_norm, Layer::Norm::per_head);
  EXPECT_EQ(read(sizes("qwen3")).head_dim, 128);
}

TEST(DecoderConfig, OfPhi3FusesProjections) {
  const DecoderConfig c = read(with(
      sizes("phi3"), {{"sliding_window", 48}, {"partial_rotary_factor", 0.5}, {"head_dim", 16}}));
  EXPECT_TRUE(c.fused);
  EXPECT_THAT(c.window_left, Each(47));
  EXPECT_EQ(c.rope.rotary_dim, 8);
}

TEST(DecoderConfig, OfPhi3WithLongRopeEndsWhereItsFrequenciesDo) {
  const std::vector<double> ones(4, 1.0), fours(4, 4.0);
  const Json longrope{
      {"original_max_position_embeddings", 128},
      {"rope_scaling", {{"type", "su"}, {"short_factor", ones}, {"long_factor", fours}}}};
  const Json config = with(sizes("phi3"), longrope);
  EXPECT_EQ(read(config).max_positions, 128);
  EXPECT_EQ(read(config).rope_positions, 128);
  const DecoderConfig far = decoder_config(config, "config.json", LongRope::for_long);
  EXPECT_EQ(far.max_positions, 512);
  EXPECT_EQ(far.rope_positions, -1);
}

TEST(DecoderConfig, OfGemma2CapsScalesAndAlternates) {
  const DecoderConfig c = read(with(
      sizes("gemma2"), {{"sliding_window", 32}, {"head_dim", 16}, {"query_pre_attn_scalar", 25}}));
  EXPECT_DOUBLE_EQ(c.embedding_scale, 8);
  EXPECT_DOUBLE_EQ(c.attention_scale, 0.2);
  EXPECT_EQ(c.attention_softcap, 50);
  EXPECT_EQ(c.logits_softcap, 30);
  EXPECT_EQ(c.norm_form, NormForm::one_plus_weight);
  EXPECT_TRUE(c.norms_after && c.tied);
  EXPECT_EQ(c.activation, Activation::gelu_tanh);
  EXPECT_THAT(c.window_left, ElementsAre(31, -1, 31, -1));
  const Json given{
      {"layer_types", {"full_attention", "full_attention", "sliding_attention", "full_attention"}},
      {"sliding_window", 8},
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr}};
  const DecoderConfig uncapped = read(with(sizes("gemma2"), given));
  EXPECT_THAT(uncapped.window_left, ElementsAre(-1, -1, 7, -1));
  EXPECT_EQ(uncapped.attention_softcap + uncapped.logits_softcap, 0);
}

TEST(DecoderConfig, IsKnownByItsArchitectureWhereThereIsNoModelType) {
  Json config = with(sizes("x"), {{"architectures", {"Qwen2ForCausalLM"}}});
  config.erase("model_type");
  EXPECT_EQ(read(config).family, "qwen2");
}

TEST(DecoderConfig, StatesItsDtypeAndTokensInOldAndNewForms) {
  EXPECT_EQ(read(sizes("llama")).dtype, std::nullopt);
  EXPECT_EQ(read(with(sizes("llama"), {{"torch_dtype", "float16"}})).dtype, Dtype::f16);
  EXPECT_EQ(read(with(sizes("llama"), {{"dtype", "bfloat16"}})).dtype, Dtype::bf16);
  const DecoderConfig c =
      read(with(sizes("llama"), {{"bos_token_id", 1}, {"eos_token_id", {2, 7}}}));
  EXPECT_EQ(c.begin_token, 1);
  EXPECT_THAT(c.end_tokens, ElementsAre(2, 7));
  EXPECT_THAT(read(with(sizes("llama"), {{"eos_token_id", 5}})).end_tokens, ElementsAre(5));
}

TEST(DecoderConfig, GivesOneSelfAttentionSitePerBlock) {
  const ModelShape shape = shape_of(read(with(sizes("gemma2"), {{"sliding_window", 32}})));
  EXPECT_EQ(shape.architecture, "gemma2");
  EXPECT_EQ(shape.width, 64);
  EXPECT_EQ(shape.vocab_size, 100);
  EXPECT_EQ(shape.max_positions, 512);
  ASSERT_EQ(shape.layers.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    const Layer& layer = shape.layers[static_cast<size_t>(i)];
    EXPECT_EQ(layer.kind, Layer::Kind::self);
    EXPECT_EQ(layer.block, i);
    EXPECT_EQ(layer.num_heads, 8);
    EXPECT_EQ(layer.num_kv_heads, 2);
    EXPECT_EQ(layer.softcap, 50);
    EXPECT_EQ(layer.window_left, i % 2 == 0 ? 31 : -1);
    EXPECT_TRUE(layer.rope);
  }
}

TEST(DecoderConfig, FingerprintsArithmeticAndNothingElse) {
  const std::string plain = shape_of(read(sizes("llama"))).fingerprint;
  EXPECT_THAT(plain, StartsWith("config:"));
  EXPECT_EQ(shape_of(read(with(sizes("llama"), {{"use_cache", false}, {"dtype", "float16"}})))
                .fingerprint,
            plain);
  for (const Json& change : {Json{{"rope_theta", 5e5}}, Json{{"rms_norm_eps", 1e-5}},
                             Json{{"hidden_act", "gelu"}}, Json{{"attention_bias", true}}})
    EXPECT_NE(shape_of(read(with(sizes("llama"), change))).fingerprint, plain) << change;
}

void expect_error(const Json& config, const char* code, const char* part) {
  EXPECT_THAT(error_of([&] { read(config); }),
              AllOf(StartsWith(std::string(code) + ": config.json"), HasSubstr(part)))
      << config;
}

TEST(DecoderConfig, NamesTheArchitecturesItReads) {
  const char* all = "supported: llama, mistral, qwen2, qwen3, phi3, gemma2";
  expect_error(sizes("gpt2"), "E_UNSUPPORTED", "model type `gpt2` is not supported");
  expect_error(sizes("gpt2"), "E_UNSUPPORTED", all);
  expect_error({{"architectures", {"BertModel"}}}, "E_UNSUPPORTED", "architecture `BertModel`");
  expect_error(with(sizes("llama"), {{"architectures", {"LlamaForSequenceClassification"}}}),
               "E_UNSUPPORTED", "supported: LlamaForCausalLM");
  expect_error(Json::object(), "E_FORMAT", "neither `model_type` nor `architectures`");
  expect_error(Json::array(), "E_FORMAT", "must be a JSON object");
}

TEST(DecoderConfig, RefusesOptionsItDoesNotComputeByName) {
  expect_error(with(sizes("llama"), {{"quantization_config", {{"bits", 4}}}}), "E_UNSUPPORTED",
               "quantization_config");
  expect_error(with(sizes("llama"), {{"hidden_act", "relu2"}}), "E_UNSUPPORTED",
               "activation `relu2`");
  expect_error(with(sizes("llama"), {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}}),
               "E_UNSUPPORTED", "rope type `dynamic`");
  expect_error(with(sizes("mistral"), {{"layer_types", {"full_attention"}}}), "E_UNSUPPORTED",
               "layer_types");
  expect_error(with(sizes("gemma2"), {{"use_bidirectional_attention", true}}), "E_UNSUPPORTED",
               "use_bidirectional_attention");
  expect_error(
      with(sizes("qwen2"),
           {{"layer_types",
             {"chunked_attention", "full_attention", "full_attention", "full_attention"}}}),
      "E_UNSUPPORTED", "layer type `chunked_attention` of layer 0");
}

TEST(DecoderConfig, RefusesAbsurdNumbers) {
  const auto changed = [](const char* name, const Json& value) {
    return with(sizes("llama"), {{name, value}});
  };
  for (const char* name : {"hidden_size", "intermediate_size", "num_hidden_layers",
                           "num_attention_heads", "vocab_size", "max_position_embeddings"}) {
    for (const Json& value : {Json(0), Json(-1), Json(1.5), Json("8"), Json(1e300), Json(nullptr)})
      expect_error(changed(name, value), "E_FORMAT", name);
    Json without = sizes("llama");
    without.erase(name);
    expect_error(without, "E_FORMAT", name);
  }
  expect_error(changed("num_key_value_heads", 3), "E_FORMAT",
               "`num_key_value_heads` is 3, must divide `num_attention_heads` = 8");
  expect_error(changed("num_attention_heads", 6), "E_FORMAT", "`hidden_size` = 64");
  expect_error(changed("head_dim", 7), "E_FORMAT", "must be even");
  expect_error(changed("head_dim", 0), "E_FORMAT", "`head_dim` is 0");
  expect_error(changed("rms_norm_eps", -1), "E_FORMAT", "`rms_norm_eps` is -1");
  expect_error(changed("dtype", "int4"), "E_FORMAT", "float32, bfloat16 or float16");
  expect_error(changed("tie_word_embeddings", 1), "E_FORMAT", "must be true or false");
  expect_error(changed("eos_token_id", "</s>"), "E_FORMAT", "`eos_token_id`");
  expect_error(with(sizes("mistral"), {{"sliding_window", 0}}), "E_FORMAT", "`sliding_window`");
  expect_error(with(sizes("qwen2"), {{"layer_types", {"full_attention"}}}), "E_FORMAT",
               "names 1 layers, but `num_hidden_layers` is 4");
}

}  // namespace
}  // namespace kvlab
