// The engine against attention's definition.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/cpu_engine.h"
#include "tests/kernels/scene.h"

namespace kvlab::test {
namespace {

struct CodecChoice {
  std::string codec, params;
};
const std::vector<CodecChoice> kCodecs{
    {"float32", "{}"},
    {"float16", "{}"},
    {"bfloat16", "{}"},
    {"float24", "{}"},
    {"bfloat24", "{}"},
    {"int8", R"({"group": 0})"},
    {"int8", R"({"group": 32})"},
    {"int4", R"({"group": 32})"},
    {"int4", R"({"group": 64})"},
    {"int4", R"({"group": 0})"},
    {"int2", R"({"group": 32})"},
    {"int8", R"({"axis": "channel", "group": 32})"},
    {"int4", R"({"axis": "channel", "group": 64})"},
    {"int2", R"({"axis": "channel", "group": 16})"},
};

void check(Engine& engine, const SceneOptions& options, const RunOptions& run = {}) {
  Scene scene(engine, options);
  const Answer answer = scene.run(engine, run);
  const Scene::Expected expected = scene.expected();
  int64_t rows = 0;
  for (const int64_t n : options.lengths) rows = std::max(rows, n);
  expect_close(answer, expected, Bound::of(expected, options.head_dim, rows), describe(options));
}

class Attention : public ::testing::TestWithParam<std::string> {
 protected:
  std::shared_ptr<Engine> engine_ = make_cpu_engine({.isa = GetParam()});
};

/// Lengths of channel codecs are whole tiles.
std::vector<int64_t> lengths_for(const CodecChoice& codec, std::vector<int64_t> lengths) {
  if (codec.params.find("channel") != std::string::npos)
    for (int64_t& n : lengths) n = n / 64 * 64;
  return lengths;
}

TEST_P(Attention, EveryCodecAndLengthAgreesWithTheDefinition) {
  uint64_t seed = 1;
  for (const CodecChoice& codec : kCodecs)
    for (const int64_t length : {0, 1, 63, 64, 65, 1000})
      check(*engine_, {.head_dim = 128,
                       .key_codec = codec.codec,
                       .key_params = codec.params,
                       .lengths = lengths_for(codec, {length}),
                       .seed = seed++});
}

TEST_P(Attention, EveryCodecGroupAndHeadDimAgreesWithTheDefinition) {
  uint64_t seed = 100;
  for (const CodecChoice& codec : kCodecs)
    for (const int group : {1, 2, 3, 4, 5, 7, 8, 16})
      for (const int dim : {48, 64, 80, 96, 128})
        check(*engine_, {.num_heads = group,
                         .num_kv_heads = 1,
                         .head_dim = dim,
                         .key_codec = codec.codec,
                         .key_params = codec.params,
                         .lengths = lengths_for(codec, {70}),
                         .seed = seed++});
}

TEST_P(Attention, EveryCodecAndVariantAgreesWithTheDefinition) {
  uint64_t seed = 1000;
  for (const CodecChoice& codec : kCodecs)
    for (const SplitPolicy& split : {SplitPolicy{}, SplitPolicy{SplitPolicy::Kind::fixed, 64},
                                     SplitPolicy{SplitPolicy::Kind::fixed, 100}}) {
      SceneOptions options{.key_codec = codec.codec,
                           .key_params = codec.params,
                           .lengths = lengths_for(codec, {130, 0, 257}),
                           .query_tokens = 3,
                           .seed = seed++};
      check(*engine_, options, {.split = split});
      SceneOptions window = options, cap = options, alibi = options, sink = options, near = options,
                   far = options;
      window.window_left = 40;
      cap.softcap = 5;
      alibi.alibi = true;
      sink.sinks = true;
      near.distance_bias = 1;  // every distance is the last entry's
      far.distance_bias = 500;
      for (const SceneOptions& one : {window, cap, alibi, sink, near, far})
        check(*engine_, one, {.split = split});
      SceneOptions all = window;
      all.softcap = 20;
      all.alibi = all.sinks = true;
      all.distance_bias = 30;
      check(*engine_, all, {.split = split});
    }
}

TEST_P(Attention, ManyQueryTokensAreCausal) {
  for (const char* codec : {"float32", "bfloat16", "int4"})
    for (const int64_t tokens : {17, 100, 300}) {
      SceneOptions options{.key_codec = codec,
                           .lengths = {tokens, tokens + 50},
                           .query_tokens = static_cast<int>(tokens)};
      check(*engine_, options);
      options.window_left = 20;
      check(*engine_, options);
      options.distance_bias = 16;
      check(*engine_, options);
    }
}

TEST_P(Attention, QueriesBeforeTheFirstRowSeeNothing) {
  // More queries than rows: the first of them stand before position 0.
  Scene scene(*engine_, {.lengths = {3}, .query_tokens = 8});
  const Answer answer = scene.run(*engine_);
  const Scene::Expected expected = scene.expected();
  EXPECT_EQ(answer.lse[0], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(answer.out[0], 0.0f);
  expect_close(answer, expected, Bound::of(expected, 64, 3), "queries before the first row");
}

TEST_P(Attention, QueriesInBfloat16GiveTheSameBound) {
  for (const CodecChoice& codec : kCodecs)
    check(*engine_, {.num_heads = 8,
                     .num_kv_heads = 2,
                     .head_dim = 128,
                     .key_codec = codec.codec,
                     .key_params = codec.params,
                     .lengths = lengths_for(codec, {200}),
                     .query_dtype = Dtype::bf16});
}

TEST_P(Attention, KeysAndValuesMayHaveDifferentCodecsAndWidths) {
  check(*engine_, {.head_dim = 64,
                   .value_dim = 96,
                   .key_codec = "int8",
                   .value_codec = "int2",
                   .key_params = R"({"axis": "channel"})",
                   .lengths = {128}});
  check(*engine_, {.head_dim = 128,
                   .value_dim = 48,
                   .key_codec = "float16",
                   .value_codec = "int4",
                   .lengths = {77}});
}

TEST_P(Attention, LargeLogitsAndPeakedRowsStayInsideTheBound) {
  for (const CodecChoice& codec : kCodecs)
    check(*engine_, {.key_codec = codec.codec,
                     .key_params = codec.params,
                     .lengths = lengths_for(codec, {150}),
                     .key_size = 30.0f});
}

TEST_P(Attention, RopeOnLoadAgreesWithTheDefinition) {
  for (const auto style : {Rope::Style::half_split, Rope::Style::interleaved})
    for (const int rotary : {16, 64}) {
      Rope rope{.style = style, .rotary_dim = rotary, .attention_factor = 1.2};
      for (int c = 0; c < rotary / 2; ++c)
        rope.inv_freq.push_back(std::pow(10000.0, -2.0 * c / rotary));
      for (const char* codec : {"float32", "bfloat16", "int4"})
        for (const int tokens : {1, 5}) {
          SceneOptions options{
              .key_codec = codec, .lengths = {150, 64}, .query_tokens = tokens, .rope = rope};
          check(*engine_, options);
          options.keys_pre_rope = true;
          check(*engine_, options);
          options.distance_bias = 40;
          check(*engine_, options);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, Attention, ::testing::ValuesIn(cpu_instruction_sets()),
                         [](const auto& isa) { return isa.param; });

}  // namespace
}  // namespace kvlab::test
