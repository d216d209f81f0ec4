// What a cache of slim holds: bytes of known networks, rows however the tokens came, and selectors
// and codecs on top of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "core/compose.h"
#include "core/error.h"
#include "kernels/cpu_engine.h"
#include "tests/methods/slim/definition.h"

namespace kvlab::test {
namespace {

// --- bytes of networks nobody has weights of

struct Known {
  const char* name;
  int layers, heads, kv_heads, head_dim, width;
};
constexpr Known kLlama2{"Llama-2-7B", 32, 32, 32, 128, 4096};
constexpr Known kTiny{"tiny", 6, 6, 6, 48, 288};
constexpr Known kPhi3{"Phi-3-mini", 32, 32, 32, 96, 3072};
constexpr Known kCodeGemma{"CodeGemma-7B", 28, 16, 16, 256, 3072};
constexpr Known kGemma2{"Gemma-2-9B", 42, 16, 8, 256, 3584};
constexpr Known kLlama3{"Llama-3-8B", 32, 32, 8, 128, 4096};
constexpr Known kMistral{"Mistral-7B", 32, 32, 8, 128, 4096};
constexpr Known kGemma27{"Gemma-2-27B", 46, 32, 16, 128, 4608};

/// One layer of it.
ModelShape shape_of(const Known& known, Rope::Style style) {
  Layer layer{.num_heads = known.heads,
              .num_kv_heads = known.kv_heads,
              .head_dim = known.head_dim,
              .value_dim = known.head_dim,
              .scale = 1};
  if (style != Rope::Style::none)
    layer.rope = {.style = style,
                  .rotary_dim = known.head_dim,
                  .inv_freq = std::vector<double>(static_cast<size_t>(known.head_dim / 2), 0.5)};
  return {.architecture = known.name,
          .fingerprint = "",
          .width = known.width,
          .vocab_size = 8,
          .max_positions = 1 << 20,
          .layers = {layer}};
}

/// Bytes a cache holds for a token of all layers: what one layer was seen to hold for 64 of them.
double bytes_per_token(const Known& known, const Json& params, Dtype run_dtype = Dtype::bf16,
                       Rope::Style style = Rope::Style::half_split) {
  constexpr int64_t tokens = 64;
  const ModelShape shape = shape_of(known, style);
  Registry registry;
  register_all(registry);
  const Json method = params.is_null() ? Json("dense") : Json{{"name", "slim"}, {"params", params}};
  Cache cache(shape,
              compose(parse_methods(method, registry), shape, registry, nullptr, run_dtype, {},
                      MissingArtifact::example),
              registry, {.engine = make_cpu_engine(), .run_dtype = run_dtype});
  const std::vector<SeqId> sequences{cache.add_sequence()};
  const std::vector<int32_t> indptr{0, tokens};
  std::vector<int32_t> positions(tokens);
  std::iota(positions.begin(), positions.end(), 0);
  const RowMap rows{sequences, indptr, positions};
  cache.begin_chunk({.rows = rows, .token_ids = positions});
  const std::vector<u8> zeros(
      static_cast<size_t>(tokens * 4 * std::max(known.width, known.heads * known.head_dim)));
  const Needs needs = cache.needs(0, tokens);
  const auto given = [&](Needs what, std::initializer_list<int64_t> sizes) {
    return has(needs, what) ? dense_view(zeros.data(), run_dtype, sizes) : TensorView{};
  };
  const std::initializer_list<int64_t> heads{tokens, known.kv_heads, known.head_dim};
  cache.append({.layer = 0,
                .rows = rows,
                .hidden = given(Needs::hidden, {tokens, known.width}),
                .keys_pre_rope = given(Needs::keys_pre_rope, heads),
                .keys = given(Needs::keys, heads),
                .values = given(Needs::values, heads)});
  cache.end_chunk(ChunkEnd::prompt);
  return static_cast<double>(known.layers * cache.payload(sequences[0])) / tokens;
}

TEST(Bytes, OfKnownNetworksAreHalfOfDenseAndTheSideCache) {
  const Json keys{{"mode", "keys"}}, side{{"mode", "keys_side"}}, keys24{{"mode", "keys24"}};
  EXPECT_EQ(bytes_per_token(kLlama2, {}), 524288);
  EXPECT_EQ(bytes_per_token(kLlama2, keys), 262144);
  EXPECT_EQ(bytes_per_token(kLlama2, side), 278528);
  EXPECT_EQ(bytes_per_token(kLlama2, keys24), 393216);
  EXPECT_EQ(bytes_per_token(kPhi3, {}), 393216);
  EXPECT_EQ(bytes_per_token(kPhi3, keys), 196608);
  EXPECT_EQ(bytes_per_token(kPhi3, side), 208896);
  EXPECT_EQ(bytes_per_token(kPhi3, keys24), 294912);
  EXPECT_EQ(bytes_per_token(kCodeGemma, {}), 458752);
  EXPECT_EQ(bytes_per_token(kCodeGemma, keys), 229376);
  EXPECT_EQ(bytes_per_token(kCodeGemma, side), 243712);
  EXPECT_EQ(bytes_per_token(kCodeGemma, keys24), 344064);
}

TEST(Bytes, OfASmallNetwork) {
  const Json side18{{"mode", "keys_side"}, {"side", 18}};
  EXPECT_EQ(bytes_per_token(kTiny, {}), 6912);
  EXPECT_EQ(bytes_per_token(kTiny, {{"mode", "keys"}}), 3456);
  EXPECT_EQ(bytes_per_token(kTiny, side18), 3672);
  EXPECT_EQ(bytes_per_token(kTiny, {{"mode", "keys_side"}}), 3744) << "e / 16, a multiple of 8";
  EXPECT_EQ(bytes_per_token(kTiny, {{"mode", "keys24"}}), 5184);
  EXPECT_EQ(bytes_per_token(kTiny, {}, Dtype::f32), 13824);
  EXPECT_EQ(bytes_per_token(kTiny, {{"mode", "keys"}}, Dtype::f32), 6912);
  EXPECT_EQ(bytes_per_token(kTiny, side18, Dtype::f32), 7344);
}

TEST(Bytes, OfHiddenRowsAreTheModelsWidth) {
  const Json input{{"mode", "input"}};
  EXPECT_EQ(bytes_per_token(kLlama2, input, Dtype::bf16, Rope::Style::none), 262144);
  EXPECT_EQ(bytes_per_token(kTiny, input, Dtype::bf16, Rope::Style::none), 3456);
  EXPECT_EQ(bytes_per_token(kCodeGemma, input, Dtype::bf16, Rope::Style::none), 172032);
}

TEST(Bytes, OfCompletedKeysAreTheModelsWidth) {
  EXPECT_EQ(bytes_per_token(kGemma2, {}), 344064);
  EXPECT_EQ(bytes_per_token(kGemma2, {{"mode", "keys"}}), 301056);
}

TEST(Bytes, OfGroupedQueriesCannotBeSaved) {
  for (const Known& known : {kLlama3, kMistral, kGemma27}) try {
      bytes_per_token(known, {{"mode", "keys"}});
      ADD_FAILURE() << known.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "SLIM_E_NO_SAVING") << known.name;
    }
}

/// Maps in float32 take 4 e e bytes, the value projection they replace 2 e e or, in float32, 4 e e.
TEST(BreakEven, CountsTheMapAndTheProjectionItReplaces) {
  FakeModel model({.tokens = 200});
  const auto tokens = [&](const char* store) {
    const Artifact made = prepare_slim(model, {{"mode", "keys"}, {"store", store}}, 200);
    return made.header().at("layers").at(0).at("break_even_tokens").get<double>();
  };
  EXPECT_EQ(tokens("bfloat16"), 32);
  EXPECT_EQ(tokens("float32"), 0);
}

// --- rows however the tokens came

const char* const kModes[] = {"keys",       "keys_shaped", "keys_side", "keys_shaped_side",
                              "keys_basis", "keys24"};

Json bf16(const char* mode) { return {{"mode", mode}, {"store", "bfloat16"}}; }

/// Everything stored of a sequence, byte by byte.
std::vector<u8> stored(const Cache& cache, SeqId sequence, int64_t tokens) {
  std::vector<u8> bytes;
  const Rows rows = cache.export_rows(sequence, {0, tokens});
  for (const auto& [name, view] : rows.tensors) {
    const auto* const data = static_cast<const u8*>(view.data);
    bytes.insert(bytes.end(), data, data + view.numel() * size_of(view.dtype));
  }
  EXPECT_FALSE(bytes.empty());
  return bytes;
}

TEST(StoredRows, AreTheSameByteForByteHoweverTheTokensCame) {
  FakeModel model({.layers = 2});
  for (const char* mode : kModes) {
    const Artifact artifact = prepare_slim(model, bf16(mode));
    const auto after = [&](const std::vector<int64_t>& lengths) {
      SlimCache slim(model, artifact);
      const SeqId sequence = slim.cache->add_sequence();
      int64_t seen = 0;
      for (const int64_t length : lengths) {
        slim.pass(sequence, {seen, seen + length});
        seen += length;
      }
      return stored(*slim.cache, sequence, seen);
    };
    const std::vector<u8> at_once = after({37});
    EXPECT_EQ(after(std::vector<int64_t>(37, 1)), at_once) << mode;
    EXPECT_EQ(after({5, 17, 15}), at_once) << mode;
  }
}

TEST(StoredRows, OfAForkAreItsOwnOnceWritten) {
  FakeModel model({.tokens = 400});
  const Artifact artifact = prepare_slim(model, bf16("keys_shaped_side"));
  SlimCache slim(model, artifact);
  const SeqId first = slim.cache->add_sequence();
  slim.pass(first, {0, 20});
  const SeqId second = slim.cache->fork(first);
  const std::vector<u8> shared = stored(*slim.cache, first, 20);
  slim.pass(second, {20, 30}, ReadPolicy::stored, 200);
  slim.pass(first, {20, 30});
  EXPECT_EQ(stored(*slim.cache, second, 20), shared);
  EXPECT_NE(stored(*slim.cache, second, 30), stored(*slim.cache, first, 30));
}

/// Keys are stored before RoPE: what was appended at other positions is the same rows.
TEST(StoredRows, DoNotDependOnPositions) {
  FakeModel model({.tokens = 400});
  const Artifact artifact = prepare_slim(model, bf16("keys_shaped"));
  SlimCache slim(model, artifact);
  const SeqId early = slim.cache->add_sequence(), late = slim.cache->add_sequence();
  slim.pass(early, {0, 12}, ReadPolicy::stored, 100);
  slim.pass(late, {0, 50});
  slim.pass(late, {50, 62}, ReadPolicy::stored, 50);  // the tokens 100 ... 111
  const Rows a = slim.cache->export_rows(early, {0, 12});
  const Rows b = slim.cache->export_rows(late, {50, 62});
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    if (a.tensors[i].second.dtype == Dtype::i32) continue;  // the positions themselves
    const auto view = [](const TensorView& v) {
      const auto* const data = static_cast<const u8*>(v.data);
      return std::vector<u8>(data, data + v.numel() * size_of(v.dtype));
    };
    EXPECT_EQ(view(a.tensors[i].second), view(b.tensors[i].second)) << a.tensors[i].first;
  }
}

// --- on top of it

TEST(Composition, AWindowDropsWholeRows) {
  FakeModel model({.layers = 2});
  const Artifact artifact = prepare_slim(model, {{"mode", "keys"}, {"store", "float32"}});
  const Json window{{"name", "window"}, {"params", {{"sink", 2}, {"recent", 9}}}};
  SlimCache slim(model, artifact, Json::array({window}));
  const SeqId sequence = slim.cache->add_sequence();
  for (int64_t t = 0; t < 40; ++t) slim.pass(sequence, {t, t + 1}, ReadPolicy::masked);
  const auto want = dense_attention(
      model, 40, {.reads = [](int64_t q, int64_t j) { return j < 2 || j > q - 9; }});
  EXPECT_LE(relative_error(slim.out, want), 1e-4);
  // Of two layers 2 sinks and the 8 rows that the next query reads beside its own.
  EXPECT_EQ(slim.cache->payload(sequence), 2 * (2 + 8) * 32 * 4);
}

/// The error of values that prepare says codes of 8 bits will have, and then they have it.
TEST(Composition, CodesOnRowsCostWhatPrepareSaysBefore) {
  FakeModel model(FakeConfig{});
  const Artifact artifact = prepare_slim(model, {{"mode", "keys"}, {"store", "float32"}});
  const Json& layer = artifact.header().at("layers").at(0);
  const double says = layer.at("value_error_int8");
  EXPECT_GT(says, 4 * 0.0065) << "amplified: a dense cache in 8 bits loses 0.65 %";
  const Json quant{{"name", "quant"}, {"params", {{"bits", 8}, {"group", 0}}}};
  SlimCache slim(model, artifact, Json::array({quant}));
  const SeqId sequence = slim.cache->add_sequence();
  const int64_t n = 200;
  slim.pass(sequence, {0, n});
  std::vector<float> keys(static_cast<size_t>(n * 32)), values(keys.size());
  slim.cache->materialise(0, sequence, {0, n}, dense_view(keys.data(), Dtype::f32, {n, 4, 8}),
                          dense_view(values.data(), Dtype::f32, {n, 4, 8}));
  double apart = 0, size = 0;
  for (int64_t t = 0; t < n; ++t)
    for (int h = 0; h < 4; ++h) {
      const std::vector<double> truth = model.value(0, h, t);
      for (int i = 0; i < 8; ++i) {
        apart += std::pow(
            values[static_cast<size_t>((t * 4 + h) * 8 + i)] - truth[static_cast<size_t>(i)], 2);
        size += std::pow(truth[static_cast<size_t>(i)], 2);
      }
    }
  EXPECT_NEAR(std::sqrt(apart / size) / says, 1, 0.3);
}

}  // namespace
}  // namespace kvlab::test
