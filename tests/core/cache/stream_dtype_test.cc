// Streams that declare a dtype of their own: what a stage writes, in which form it lies, what it
// takes, what is read back, and what rows it may be exchanged with.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "kernels/codecs.h"
#include "kernels/cpu_engine.h"
#include "tests/core/cache/rig.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

constexpr int kHeads = 2, kDim = 8;

float key_at(int64_t position, int64_t i) { return made_up(0, 0, position, i); }
/// Of 8 bits.
float value_at(int64_t position, int64_t i) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(made_up(0, 1, position, i)) & 0xffff0000u);
}

void put(const TensorView& rows, int64_t at, float x) {
  if (rows.dtype == Dtype::f32)
    rows.as<float>()[at] = x;
  else  // bfloat16, cut
    rows.as<uint16_t>()[at] = static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
}

/// Keys and values from positions alone; keys have the dtype and the bits that a test asks for.
struct Wide final : Project {
  Wide(std::optional<Dtype> of_keys, std::optional<Encoding> in_bits)
      : dtype(of_keys), encoding(std::move(in_bits)) {}
  Layout layout(int) const override {
    return {
        .streams =
            {{.name = "key", .units = kHeads, .width = kDim, .dtype = dtype, .encoding = encoding},
             {.name = "value", .units = kHeads, .width = kDim}},
        .key = {.stream = "key"},
        .values = {{.stream = "value"}}};
  }
  Needs needs(int, int64_t) const override { return Needs::none; }
  void rows(const Append& append, NewRows& out) const override {
    const TensorView keys = out.stream("key"), values = out.stream("value");
    for (int64_t row = 0, at = 0; row < keys.size(0); ++row)
      for (int64_t i = 0; i < kHeads * kDim; ++i, ++at) {
        const int64_t p = append.rows.positions[static_cast<size_t>(row)];
        put(keys, at, key_at(p, i));
        put(values, at, value_at(p, i));
      }
    if (wrote) wrote(out);
  }
  std::optional<Dtype> dtype;
  std::optional<Encoding> encoding;
  std::function<void(NewRows&)> wrote{};  // with what was written
};

/// The value stream as it comes.
Encode windows(int64_t first, int64_t recent) {
  return {.stream = [](int, const StreamSpec&) { return Encoding{}; },
          .first = first,
          .recent = recent};
}

struct WideCache {
  explicit WideCache(std::shared_ptr<Wide> project, std::optional<Encode> encode = {},
                     Dtype run = Dtype::bf16) {
    register_codecs(registry);
    shape.architecture = shape.fingerprint = "wide";
    shape.width = 4;
    shape.layers = {plain_layer(kHeads, kHeads, kDim, kDim)};
    shape.layers[0].scale = 1;
    Composition made{.project = std::move(project), .encode = std::move(encode)};
    cache =
        std::make_unique<Cache>(shape, std::move(made), registry,
                                Where{.engine = make_cpu_engine({.threads = 1}), .run_dtype = run});
    id = cache->add_sequence();
  }
  WideCache(std::optional<Dtype> dtype, const std::string& codec, std::optional<Encode> encode = {},
            Dtype run = Dtype::bf16)
      : WideCache(std::make_shared<Wide>(
                      dtype, codec.empty() ? std::optional<Encoding>() : Encoding{.codec = codec}),
                  std::move(encode), run) {}

  /// The next n tokens.  The result: what the newest one's query, which asks for feature 3 alone,
  /// got as ln sum exp over the keys of head 0.
  float pass(int64_t n, ReadPolicy read = ReadPolicy::stored) {
    std::vector<int32_t> positions(static_cast<size_t>(n));
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(cache->tokens_seen(id)));
    const std::vector<int32_t> indptr{0, static_cast<int32_t>(n)};
    const RowMap rows{{&id, 1}, indptr, positions};
    cache->begin_chunk({.rows = rows, .read = read});
    cache->append({.layer = 0, .rows = rows});
    std::vector<float> queries(static_cast<size_t>(n * kHeads * kDim)), out(queries.size()),
        lse(static_cast<size_t>(n * kHeads));
    for (size_t i = 3; i < queries.size(); i += kDim) queries[i] = 1;
    cache->attend({.layer = 0,
                   .rows = rows,
                   .queries = dense_view(queries.data(), Dtype::f32, {n, kHeads, kDim}),
                   .out = dense_view(out.data(), Dtype::f32, {n, kHeads, kDim}),
                   .lse_ln = dense_view(lse.data(), Dtype::f32, {n, kHeads})});
    cache->end_chunk(ChunkEnd::chunk);
    return lse[static_cast<size_t>((n - 1) * kHeads)];
  }

  /// Whether rows [first, last) read as keys within `bound` times their size, and values exactly.
  ::testing::AssertionResult reads(int64_t first, int64_t last, double bound, SeqId of) const {
    std::vector<float> keys(static_cast<size_t>((last - first) * kHeads * kDim)),
        values(keys.size());
    const auto view = [&](std::vector<float>& x) {
      return dense_view(x.data(), Dtype::f32, {last - first, kHeads, kDim});
    };
    cache->materialise(0, of, {first, last}, view(keys), view(values));
    double worst = 0;
    for (int64_t p = first, at = 0; p < last; ++p)
      for (int64_t i = 0; i < kHeads * kDim; ++i, ++at) {
        const double x = key_at(p, i), error = std::abs(keys[static_cast<size_t>(at)] - x);
        worst = std::max(worst, error / std::abs(x));
        if (values[static_cast<size_t>(at)] != value_at(p, i))
          return ::testing::AssertionFailure() << "value " << i << " of position " << p;
      }
    if (worst <= bound && (bound == 0 || worst > 0)) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "keys are " << worst << " of their size away";
  }
  ::testing::AssertionResult reads(int64_t first, int64_t last, double bound) const {
    return reads(first, last, bound, id);
  }

  Registry registry{};
  ModelShape shape{};
  std::unique_ptr<Cache> cache{};
  SeqId id{};
};

constexpr double kExact = 0, kBfloat24 = 0x1p-15, kBfloat16 = 0x1p-8;
constexpr int64_t kFeatures = kHeads * kDim;

TEST(StreamDtype, RowsStayWhatTheyWereWhateverTheRun) {
  WideCache wide(Dtype::f32, "");
  wide.pass(70);
  EXPECT_TRUE(wide.reads(0, 70, kExact));
  EXPECT_EQ(wide.cache->bytes().payload, 70 * kFeatures * (4 + 2));
  EXPECT_EQ(wide.cache->bytes().residual, 0);
  WideCache narrow(std::nullopt, "");
  narrow.pass(70);
  EXPECT_EQ(narrow.cache->bytes().payload, 70 * kFeatures * (2 + 2));
}

TEST(StreamDtype, StagesWriteAndSeeItInThatDtype) {
  for (const std::optional<Dtype> dtype :
       {std::optional<Dtype>(), std::optional(Dtype::f32), std::optional(Dtype::bf16)}) {
    const auto project = std::make_shared<Wide>(dtype, Encoding{.codec = "bfloat24"});
    int calls = 0;
    project->wrote = [&](NewRows& rows) {
      ++calls;
      EXPECT_EQ(rows.stream("key").dtype, dtype.value_or(Dtype::bf16));
      EXPECT_EQ(rows.stream("value").dtype, Dtype::bf16);
      const TensorView stored = rows.as_stored("key"), given = rows.stream("key");
      EXPECT_EQ(stored.dtype, given.dtype);
      for (int64_t i = 0; dtype == Dtype::f32 && i < given.numel(); ++i) {
        const double x = given.as<float>()[i];
        EXPECT_NEAR(stored.as<float>()[i], x, std::abs(x) * kBfloat24);
      }
    };
    WideCache wide(project);
    wide.pass(5);
    EXPECT_EQ(calls, 1);
  }
}

TEST(StreamDtype, EncodedAtAppendTakesTheCodecsBytesAndStaysInItsBound) {
  WideCache wide(Dtype::f32, "bfloat24");
  wide.pass(70);
  EXPECT_TRUE(wide.reads(0, 70, kBfloat24));
  EXPECT_EQ(wide.cache->bytes().payload, 70 * kFeatures * (3 + 2));
}

TEST(StreamDtype, ARawPassReadsItsOwnRowsAsTheyCame) {
  const double x = key_at(0, 3);
  WideCache raw(Dtype::f32, "bfloat16"), stored(Dtype::f32, "bfloat16"), plain(Dtype::f32, "");
  EXPECT_NEAR(raw.pass(1, ReadPolicy::raw_chunk), x, std::abs(x) * 0x1p-22);
  EXPECT_NEAR(plain.pass(1, ReadPolicy::raw_chunk), x, std::abs(x) * 0x1p-22);
  EXPECT_GT(std::abs(stored.pass(1) - x), std::abs(x) * 0x1p-20);
  EXPECT_EQ(raw.cache->bytes().payload, stored.cache->bytes().payload);
}

TEST(StreamDtype, FirstAndRecentRowsAreAsTheyCame) {
  WideCache wide(Dtype::f32, "bfloat24", windows(2, 4));
  for (int i = 0; i < 3; ++i) wide.pass(10);
  EXPECT_TRUE(wide.reads(0, 2, kExact));
  EXPECT_TRUE(wide.reads(2, 26, kBfloat24));
  EXPECT_TRUE(wide.reads(26, 30, kExact));  // 26 is due when 30 comes
  const int64_t residual = 6 * kFeatures * (4 + 2);
  EXPECT_EQ(wide.cache->bytes().residual, residual);
  EXPECT_EQ(wide.cache->bytes().payload, residual + 24 * kFeatures * (3 + 2));
}

TEST(StreamDtype, IsWhatACodecHasToBeExactFor) {
  // bfloat16 would be exact for the run.
  WideCache lossy(Dtype::f32, "bfloat16", windows(0, 4));
  lossy.pass(10);
  EXPECT_TRUE(lossy.reads(0, 6, kBfloat16));
  EXPECT_TRUE(lossy.reads(6, 10, kExact));
  EXPECT_EQ(lossy.cache->bytes().residual, 4 * kFeatures * (4 + 2));
  // In a run of float32 it is exact for rows that come as bfloat16: they need not wait.
  WideCache exact(Dtype::bf16, "bfloat16", windows(0, 4), Dtype::f32);
  exact.pass(10);
  EXPECT_EQ(exact.cache->bytes().residual, 0);
  EXPECT_EQ(exact.cache->bytes().payload, 10 * kFeatures * (2 + 4));
}

TEST(StreamDtype, RowsComeBackFromFilesAndExports) {
  const Scratch scratch;
  for (const char* codec : {"", "bfloat24"}) {
    const double bound = *codec == 0 ? kExact : kBfloat24;
    WideCache wide(Dtype::f32, codec), other(Dtype::f32, codec);
    wide.pass(70);
    wide.cache->save(wide.id, scratch / "rows");
    EXPECT_TRUE(other.reads(0, 70, bound, other.cache->load(scratch / "rows")));
    other.cache->import_rows(other.id, wide.cache->export_rows(wide.id, {0, 70}), 0);
    EXPECT_TRUE(other.reads(0, 70, bound));
    EXPECT_EQ(wide.cache->identity(), other.cache->identity());
  }
}

TEST(StreamDtype, OfAnotherCacheIsRefused) {
  const Scratch scratch;
  for (const char* codec : {"", "bfloat24"}) {
    WideCache wide(Dtype::f32, codec), narrow(std::nullopt, codec), same(Dtype::bf16, codec);
    wide.pass(5);
    narrow.pass(5);
    wide.cache->save(wide.id, scratch / "wide");
    narrow.cache->save(narrow.id, scratch / "narrow");
    EXPECT_REFUSED("E_IDENTITY", "float32", narrow.cache->load(scratch / "wide"));
    EXPECT_REFUSED("E_IDENTITY", "float32", wide.cache->load(scratch / "narrow"));
    EXPECT_REFUSED(
        "E_IDENTITY", "float32",
        narrow.cache->import_rows(narrow.id, wide.cache->export_rows(wide.id, {0, 5}), 5));
    EXPECT_NO_THROW(same.cache->load(scratch / "narrow"));  // the run's dtype, declared or not
  }
}

TEST(StreamDtype, ThatRowsCannotHaveIsRefused) {
  for (const Dtype dtype : {Dtype::i8, Dtype::f64, Dtype::boolean})
    EXPECT_REFUSED("E_COMPOSE",
                   "stream `key` has " + std::string(name_of(dtype)) +
                       " rows; they must be float32, bfloat16 or float16",
                   WideCache(dtype, ""));
}

}  // namespace
}  // namespace kvlab::test
