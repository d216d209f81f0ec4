#include "eval/models/huggingface.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <limits>

#include "core/safetensors.h"
#include "tests/eval/models/values.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using test::random_tensor;
using test::value_at;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kVocab = 19, kWidth = 16, kMlp = 24, kHeads = 4, kKvHeads = 2, kHeadDim = 6;

/// A Llama of one block, as a directory; a test changes what it is about.
class LlamaDirectory : public testing::Test {
 protected:
  LlamaDirectory() {
    const int64_t q = kHeads * kHeadDim, kv = kKvHeads * kHeadDim;
    uint64_t seed = 0;
    const auto add = [&](const std::string& name, std::initializer_list<int64_t> sizes) {
      tensors_.push_back(random_tensor(name, Dtype::f32, sizes, ++seed, 0.1));
    };
    add("model.embed_tokens.weight", {kVocab, kWidth});
    add("model.norm.weight", {kWidth});
    add("lm_head.weight", {kVocab, kWidth});
    const std::string block = "model.layers.0.";
    add(block + "input_layernorm.weight", {kWidth});
    add(block + "post_attention_layernorm.weight", {kWidth});
    add(block + "self_attn.q_proj.weight", {q, kWidth});
    add(block + "self_attn.k_proj.weight", {kv, kWidth});
    add(block + "self_attn.v_proj.weight", {kv, kWidth});
    add(block + "self_attn.o_proj.weight", {kWidth, q});
    add(block + "mlp.gate_proj.weight", {kMlp, kWidth});
    add(block + "mlp.up_proj.weight", {kMlp, kWidth});
    add(block + "mlp.down_proj.weight", {kWidth, kMlp});
  }

  Tensor& tensor(std::string_view name) {
    return *std::ranges::find(tensors_, name, &Tensor::name);
  }
  void erase(std::string_view name) {
    std::erase_if(tensors_, [&](const Tensor& t) { return t.name == name; });
  }

  Network read(std::optional<Dtype> dtype = std::nullopt) {
    write_safetensors(folder_ / "model.safetensors", tensors_, {});
    std::ofstream(folder_ / "config.json") << config_;
    return read_huggingface({.directory = folder_.path(), .dtype = dtype});
  }
  std::string refusal(std::optional<Dtype> dtype = std::nullopt) {
    return error_of([&] { read(dtype); });
  }

  test::Scratch folder_{};
  std::vector<Tensor> tensors_{};
  Json config_{{"model_type", "llama"},         {"hidden_size", kWidth},
               {"intermediate_size", kMlp},     {"num_hidden_layers", 1},
               {"num_attention_heads", kHeads}, {"num_key_value_heads", kKvHeads},
               {"head_dim", kHeadDim},          {"vocab_size", kVocab},
               {"max_position_embeddings", 64}, {"rms_norm_eps", 1e-6}};
};

TEST_F(LlamaDirectory, HoldsEveryWeightOnceInItsOwnDtype) {
  const Network network = read();
  EXPECT_EQ(network.weights.embedding.view.dtype, Dtype::f32);
  const Linear& key = network.weights.blocks.at(0).key;
  const TensorView want = tensor("model.layers.0.self_attn.k_proj.weight").view;
  for (int64_t i = 0; i < want.numel(); ++i)
    ASSERT_EQ(value_at(key.weight.view, i), value_at(want, i));
  EXPECT_FALSE(key.bias.view);
  int64_t bytes = 0;
  for (const Tensor& t : tensors_) bytes += 4 * t.view.numel();
  EXPECT_EQ(make_decoder_model(read())->weight_bytes(), bytes);
  EXPECT_THAT(network.fingerprint, StartsWith("fast:"));
}

TEST_F(LlamaDirectory, IsConvertedOnceToTheRunDtype) {
  const Network network = read(Dtype::bf16);
  const TensorView got = network.weights.head.view, want = tensor("lm_head.weight").view;
  ASSERT_EQ(got.dtype, Dtype::bf16);
  for (int64_t i = 0; i < want.numel(); ++i)
    ASSERT_EQ(value_at(got, i), test::rounded_to_bf16(value_at(want, i)));
  const int64_t whole = make_decoder_model(read())->weight_bytes();
  EXPECT_EQ(make_decoder_model(read(Dtype::bf16))->weight_bytes(), whole / 2);
  EXPECT_EQ(read(Dtype::bf16).fingerprint, read().fingerprint);
}

TEST_F(LlamaDirectory, RunsInTheDtypeItStates) {
  config_["torch_dtype"] = "float16";
  EXPECT_EQ(read().weights.embedding.view.dtype, Dtype::f16);
}

TEST_F(LlamaDirectory, WithTiedEmbeddingsHoldsThemOnce) {
  config_["tie_word_embeddings"] = true;
  erase("lm_head.weight");
  const int64_t without = make_decoder_model(read())->weight_bytes();
  EXPECT_FALSE(read().weights.head.view);
  // A file may repeat the embedding as the head, but not contradict it.
  tensors_.push_back(tensor("model.embed_tokens.weight"));
  tensors_.back().name = "lm_head.weight";
  EXPECT_EQ(make_decoder_model(read())->weight_bytes(), without);
  erase("lm_head.weight");
  tensors_.push_back(random_tensor("lm_head.weight", Dtype::f32, {kVocab, kWidth}, 99));
  EXPECT_THAT(refusal(), AllOf(StartsWith("E_WEIGHT"), HasSubstr("differs")));
}

TEST_F(LlamaDirectory, EndsWhereItsGenerationConfigSays) {
  config_["eos_token_id"] = 2;
  EXPECT_THAT(read().config.end_tokens, ElementsAre(2));
  std::ofstream(folder_ / "generation_config.json") << Json{{"eos_token_id", {2, 9}}};
  EXPECT_THAT(read().config.end_tokens, ElementsAre(2, 9));
}

TEST_F(LlamaDirectory, HasAShapeBeforeItHasWeights) {
  std::ofstream(folder_ / "config.json") << config_;
  const ModelShape shape = shape_of(huggingface_config({.directory = folder_.path()}));
  EXPECT_EQ(shape.layers.size(), 1u);
  EXPECT_EQ(shape.layers[0].head_dim, kHeadDim);
  EXPECT_THAT(shape.fingerprint, StartsWith("config:"));
}

TEST_F(LlamaDirectory, NamesAWeightThatIsMissingMisshapenOrTooMany) {
  erase("model.layers.0.mlp.up_proj.weight");
  EXPECT_THAT(refusal(), AllOf(StartsWith("E_WEIGHT"),
                               HasSubstr("has no tensor `model.layers.0.mlp.up_proj.weight`")));
  tensors_.push_back(
      random_tensor("model.layers.0.mlp.up_proj.weight", Dtype::f32, {kMlp, kWidth + 1}, 1));
  EXPECT_THAT(refusal(), AllOf(StartsWith("E_SHAPE"), HasSubstr("mlp.up_proj.weight` is [24, 17], "
                                                                "the config says [24, 16]")));
  tensors_.back() =
      random_tensor("model.layers.0.mlp.up_proj.weight", Dtype::f32, {kMlp, kWidth}, 1);
  tensors_.push_back(
      random_tensor("model.layers.0.self_attn.q_proj.bias", Dtype::f32, {kHeads * kHeadDim}, 1));
  EXPECT_THAT(refusal(), AllOf(StartsWith("E_WEIGHT"),
                               HasSubstr("q_proj.bias` belongs to no part of a llama network")));
  tensors_.back() =
      random_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::f32, {3}, 1);
  EXPECT_EQ(refusal(), "no error");
}

TEST_F(LlamaDirectory, NamesAWeightOfADtypeThatIsNone) {
  tensor("model.norm.weight") = make_tensor("model.norm.weight", Dtype::i8, {kWidth});
  EXPECT_THAT(refusal(),
              AllOf(StartsWith("E_UNSUPPORTED"), HasSubstr("`model.norm.weight` is int8")));
}

TEST_F(LlamaDirectory, NamesAWeightThatIsNotFinite) {
  tensor("model.layers.0.self_attn.v_proj.weight").view.as<float>()[5] =
      std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(), AllOf(StartsWith("E_NONFINITE"), HasSubstr("v_proj.weight`: element 5")));
  tensor("model.layers.0.self_attn.v_proj.weight").view.as<float>()[5] = 1e6f;
  EXPECT_EQ(refusal(Dtype::bf16), "no error");
  EXPECT_THAT(refusal(Dtype::f16), AllOf(StartsWith("E_NONFINITE"), HasSubstr("as float16")));
}

TEST_F(LlamaDirectory, IsWhatAnOfflineStepSees) {
  config_["attention_bias"] = false;
  const std::unique_ptr<Model> model = make_decoder_model(read());
  const std::unique_ptr<ModelAccess> access = model->access();
  EXPECT_EQ(access->weight("key", 0).size(0), kKvHeads * kHeadDim);
  EXPECT_EQ(access->weight("embedding", 0).size(0), kVocab);
  EXPECT_FALSE(access->weight("key_bias", 0));
  EXPECT_THAT(error_of([&] { access->weight("keys", 0); }),
              AllOf(StartsWith("E_UNKNOWN"), HasSubstr("`key`")));
  EXPECT_THAT(error_of([&] { access->weight("key", 1); }), StartsWith("E_LAYER"));
  EXPECT_THAT(error_of([&] { access->loss(std::vector<int32_t>{1}, {}); }),
              AllOf(StartsWith("E_SHAPE"), HasSubstr("at least 2")));
  EXPECT_GT(access->loss(std::vector<int32_t>{1, 2}, {}), 0);

  std::vector<int> layers;
  access->visit(std::vector<int32_t>{3, 1, 4, 1, 5}, [&](const Tap& tap) {
    layers.push_back(tap.layer);
    // The taps are what they say: keys and values are projections of the hidden rows.
    const TensorView w = access->weight("value", 0);
    for (int64_t t = 0; t < 5; ++t)
      for (int64_t i = 0; i < kKvHeads * kHeadDim; ++i) {
        double want = 0;
        for (int64_t c = 0; c < kWidth; ++c)
          want += value_at(tap.hidden, t * kWidth + c) * value_at(w, i * kWidth + c);
        ASSERT_NEAR(value_at(tap.values, t * kKvHeads * kHeadDim + i), want, 1e-6);
      }
    EXPECT_EQ(tap.queries.size(1), kHeads);
    EXPECT_EQ(tap.keys_pre_rope.size(1), kKvHeads);
  });
  EXPECT_THAT(layers, ElementsAre(0));
  EXPECT_THAT(
      error_of([&] { access->visit(std::vector<int32_t>{3, 19}, [](const Tap&) {}); }),
      AllOf(StartsWith("E_POSITION"), HasSubstr("token id 19 of row 1"), HasSubstr("0..18")));
}

}  // namespace
}  // namespace kvlab
