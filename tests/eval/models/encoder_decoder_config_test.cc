#include "eval/models/encoder_decoder_config.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/eval/models/random_t5.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using test::small_t5;
using testing::ElementsAre;

EncoderDecoderConfig read_both(const Json& config) {
  return encoder_decoder_config(config, "config.json");
}

Json small_whisper(const Json& more = Json::object()) {
  Json config{{"model_type", "whisper"},      {"d_model", 48},
              {"encoder_layers", 2},          {"decoder_layers", 3},
              {"encoder_attention_heads", 6}, {"decoder_attention_heads", 4},
              {"encoder_ffn_dim", 80},        {"decoder_ffn_dim", 112},
              {"vocab_size", 60000}};
  config.update(more);
  return config;
}

TEST(EncoderDecoderConfig, OfT5) {
  const EncoderDecoderConfig c = read_both(small_t5());
  EXPECT_EQ(c.reads, EncoderInput::token_ids);
  EXPECT_EQ(c.width, 32);
  EXPECT_EQ(c.decoder.projected(), 48);
  EXPECT_EQ(c.encoder.num_layers, 2);
  EXPECT_EQ(c.decoder.num_layers, 2);
  EXPECT_EQ(c.norm, EncoderDecoderConfig::Norm::rms);
  EXPECT_EQ(c.norm_eps, 1e-6);
  EXPECT_EQ(c.activation, Activation::relu);
  EXPECT_FALSE(c.gated || c.biased || c.scaled);
  EXPECT_DOUBLE_EQ(c.head_scale, 1 / std::sqrt(32.0));
  EXPECT_EQ(c.begin_token, 0);
  EXPECT_THAT(c.end_tokens, ElementsAre(1));
  EXPECT_EQ(read_both(small_t5({{"num_decoder_layers", 5}})).decoder.num_layers, 5);
  EXPECT_EQ(read_both(small_t5({{"decoder_start_token_id", 7}})).begin_token, 7);
}

TEST(EncoderDecoderConfig, OfT5NamesItsMlp) {
  const auto mlp = [](const char* name) {
    const EncoderDecoderConfig c = read_both(small_t5({{"feed_forward_proj", name}}));
    return std::pair(c.gated, c.activation);
  };
  EXPECT_EQ(mlp("gated-gelu"), std::pair(true, Activation::gelu_tanh));
  EXPECT_EQ(mlp("gated-silu"), std::pair(true, Activation::silu));
  EXPECT_EQ(mlp("gelu"), std::pair(false, Activation::gelu));
  for (const char* name : {"gated-tanh", "relu-gated", "gated-", "", "gated-gated-gelu"})
    EXPECT_REFUSED("E_UNSUPPORTED", "feed_forward_proj", mlp(name));
}

// v1.1: a head of its own, and nothing is scaled.  Transformers 5 writes the second key.
TEST(EncoderDecoderConfig, OfT5ScalesWhatATiedHeadReads) {
  const auto scales = [](const Json& more) { return read_both(small_t5(more)).head_scale != 1; };
  EXPECT_TRUE(scales({{"tie_word_embeddings", true}}));
  EXPECT_FALSE(scales({{"tie_word_embeddings", false}}));
  EXPECT_FALSE(scales({{"tie_word_embeddings", true}, {"scale_decoder_outputs", false}}));
  EXPECT_TRUE(scales({{"tie_word_embeddings", false}, {"scale_decoder_outputs", true}}));
}

TEST(EncoderDecoderConfig, OfWhisper) {
  const EncoderDecoderConfig c = read_both(small_whisper());
  EXPECT_EQ(c.reads, EncoderInput::features);
  EXPECT_EQ(c.encoder.head_dim, 8);
  EXPECT_EQ(c.decoder.head_dim, 12);
  EXPECT_EQ(c.norm, EncoderDecoderConfig::Norm::layer);
  EXPECT_EQ(c.activation, Activation::gelu);
  EXPECT_TRUE(c.biased && c.scaled && c.tied);
  EXPECT_EQ(c.num_mel_bins, 80);
  EXPECT_EQ(c.max_source_positions, 1500);
  EXPECT_EQ(c.max_positions, 448);
  EXPECT_EQ(c.begin_token, 50257);
}

TEST(EncoderDecoderConfig, HasTwoSitesPerDecoderBlock) {
  const ModelShape t5 = shape_of(read_both(small_t5()));
  ASSERT_EQ(t5.layers.size(), 4U);
  for (int block = 0; block < 2; ++block) {
    const Layer& self = t5.layers[static_cast<size_t>(self_site(block))];
    const Layer& cross = t5.layers[static_cast<size_t>(cross_site(block))];
    EXPECT_EQ(self.kind, Layer::Kind::self);
    EXPECT_EQ(cross.kind, Layer::Kind::cross);
    for (const Layer& layer : {self, cross}) {
      EXPECT_EQ(layer.block, block);
      EXPECT_EQ(layer.num_kv_heads, 3);
      EXPECT_EQ(layer.head_dim, 16);
      EXPECT_EQ(layer.scale, 1);
      EXPECT_FALSE(layer.rope || layer.key_bias || layer.value_bias);
    }
    EXPECT_EQ(self.distance_bias, 21);  // of 0 to 20, which all farther ones share
    EXPECT_EQ(cross.distance_bias, 0);
  }
  EXPECT_EQ(dense_bytes(t5, 10, 100), (10 + 100) * 2 * 3 * 2 * 16 * 2);
  const ModelShape whisper = shape_of(read_both(small_whisper()));
  ASSERT_EQ(whisper.layers.size(), 6U);
  for (const Layer& layer : whisper.layers) {
    EXPECT_EQ(layer.distance_bias, 0);
    EXPECT_TRUE(layer.value_bias && !layer.key_bias);
    EXPECT_DOUBLE_EQ(layer.scale, 1 / std::sqrt(12.0));
  }
}

TEST(EncoderDecoderConfig, RefusesWhatIsNoNetworkOfOurs) {
  const auto t5 = [](const Json& more) { read_both(small_t5(more)); };
  EXPECT_REFUSED("E_FORMAT", "`d_kv`", t5({{"d_kv", 0}}));
  EXPECT_REFUSED("E_FORMAT", "`d_model`", t5({{"d_model", nullptr}}));
  EXPECT_REFUSED("E_FORMAT", "`num_layers`", t5({{"num_layers", 1 << 20}}));
  EXPECT_REFUSED("E_FORMAT", "above half of", t5({{"relative_attention_max_distance", 4}}));
  EXPECT_REFUSED("E_FORMAT", "num_buckets", t5({{"relative_attention_num_buckets", 2}}));
  EXPECT_REFUSED("E_FORMAT", "layer_norm_epsilon", t5({{"layer_norm_epsilon", -1}}));
  EXPECT_REFUSED("E_FORMAT", "decoder_start_token_id", t5({{"decoder_start_token_id", 41}}));
  EXPECT_REFUSED("E_UNSUPPORTED", "T5ForConditionalGeneration",
                 t5({{"architectures", {"T5EncoderModel"}}}));
  EXPECT_REFUSED("E_UNSUPPORTED", "quantization_config",
                 t5({{"quantization_config", {{"bits", 4}}}}));
  EXPECT_REFUSED("E_UNSUPPORTED", "supported: t5, whisper", read_both({{"model_type", "bart"}}));
  const auto whisper = [](const Json& more) { read_both(small_whisper(more)); };
  EXPECT_REFUSED("E_FORMAT", "must divide `d_model` = 48",
                 whisper({{"encoder_attention_heads", 5}}));
  EXPECT_REFUSED("E_FORMAT", "max_source_positions", whisper({{"max_source_positions", 0}}));
  EXPECT_REFUSED("E_UNSUPPORTED", "`tanh`", whisper({{"activation_function", "tanh"}}));
}

TEST(EncoderDecoderConfig, FingerprintsWhatIsComputed) {
  const auto print = [](const Json& more) {
    return shape_of(read_both(small_t5(more))).fingerprint;
  };
  EXPECT_EQ(print({{"dropout_rate", 0.5}}), print(Json::object()));
  for (const Json& change : {Json{{"d_ff", 41}},
                             {{"feed_forward_proj", "gelu"}},
                             {{"relative_attention_max_distance", 21}},
                             {{"layer_norm_epsilon", 1e-5}},
                             {{"scale_decoder_outputs", false}},
                             {{"num_decoder_layers", 3}}})
    EXPECT_NE(print(change), print(Json::object())) << change;
}

}  // namespace
}  // namespace kvlab
