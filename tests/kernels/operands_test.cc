// How keys and values are had from stored rows: as they are, slices, up maps, scales, rebuilt by a
// method; and at which level.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "core/error.h"
#include "kernels/cpu_engine.h"
#include "tests/kernels/oracle.h"
#include "tests/kernels/pages.h"

namespace kvlab::test {
namespace {

constexpr int kHeads = 8, kKvHeads = 4, kDim = 32, kTokens = 150, kQueries = 3, kMostHeads = 16;

Rope rope() {
  Rope rope{.style = Rope::Style::half_split, .rotary_dim = kDim};
  for (int c = 0; c < kDim / 2; ++c) rope.inv_freq.push_back(std::pow(10000.0, -2.0 * c / kDim));
  return rope;
}

/// Which parts of a slice's map there are.
struct MapParts {
  bool up = false, bias = false;
  bool any() const { return up || bias; }
};

/// One sequence; what a stored row means is a function from slot and kv head to key and value.
class Operands : public ::testing::Test {
 protected:
  struct Features {
    std::vector<double> key{}, value{};
  };
  using Meaning = std::function<Features(int64_t slot, int kv_head)>;

  Operands() {
    shape_ = {.num_heads = kHeads,
              .num_kv_heads = kKvHeads,
              .head_dim = kDim,
              .value_dim = kDim,
              .scale = 1 / std::sqrt(kDim)};
    std::mt19937_64 random(1);
    queries_ = normal(random, int64_t{kQueries} * kMostHeads * kDim);
    up_key_ = normal(random, int64_t{kKvHeads} * kDim * 64);
    up_value_ = normal(random, int64_t{kKvHeads} * kDim * 64);
    for (std::vector<float>* up : {&up_key_, &up_value_})
      for (float& x : *up) x /= 8;
    bias_ = normal(random, int64_t{kKvHeads} * kDim);
    distance_bias_ = normal(random, int64_t{kMostHeads} * kTokens);
  }

  Pages pages_of(std::vector<StreamLayout> streams, const PagesOptions& options = {}) {
    return Pages(std::move(streams), 1, options);
  }
  void fill(Pages& pages, int64_t tokens = kTokens) {
    pages.resize(0, 0, tokens);
    std::mt19937_64 random(2);
    for (size_t s = 0; s < pages.layout.streams.size(); ++s) {
      const StreamLayout& stream = pages.layout.streams[s];
      std::vector<std::vector<float>> rows;
      for (int64_t t = 0; t < tokens; ++t)
        rows.push_back(normal(random, int64_t{stream.units} * stream.width));
      pages.write(*engine_, static_cast<int>(s), 0, 0, rows);
    }
  }
  TensorView map_view(std::vector<float>& up, int64_t width = 64) {
    return dense_view(up.data(), Dtype::f32, {kKvHeads, kDim, width});
  }
  TensorView bias_view() { return dense_view(bias_.data(), Dtype::f32, {kKvHeads, kDim}); }
  Operand sliced(const MapParts& has, std::vector<float>& up, bool rotate) {
    return {.map = Operand::Map::slice,
            .stream = "x",
            .up = has.up ? map_view(up, kDim) : TensorView{},
            .bias = has.bias ? bias_view() : TensorView{},
            .rotate = rotate};
  }
  std::vector<double> meant(const MapParts& has, const std::vector<float>& up, int kv,
                            std::vector<double> slice) const {
    if (has.up) return mapped(up, kv, slice, has.bias);
    for (size_t c = 0; has.bias && c < kDim; ++c)
      slice[c] += bias_[static_cast<size_t>(kv) * kDim + c];
    return slice;
  }
  std::vector<double> mapped(const std::vector<float>& up, int kv, const std::vector<double>& x,
                             bool with_bias) const {
    std::vector<double> y(kDim, 0.0);
    for (size_t i = 0; i < kDim; ++i) {
      const size_t row = static_cast<size_t>(kv) * kDim + i;
      for (size_t c = 0; c < x.size(); ++c) y[i] += double{up[row * x.size() + c]} * x[c];
      if (with_bias) y[i] += bias_[row];
    }
    return y;
  }

  Ran check(const Pages& pages, const Layout& layout, const Meaning& meaning,
            Level level = Level::automatic, const Project* project = nullptr) {
    const Segment segment{.rows = pages.view, .layout = &layout, .project = project};
    const SeqId id[] = {SeqId{5}};
    const int32_t indptr[] = {0, kQueries};
    const int32_t positions[] = {100, 120, kTokens - 1};
    const int heads = shape_.num_heads;
    std::vector<float> out(static_cast<size_t>(kQueries * heads * kDim)),
        lse(static_cast<size_t>(kQueries * heads));
    Ran ran;
    engine_->attend(
        {.shape = &shape_,
         .rows = {id, indptr, positions},
         .queries = dense_view(queries_.data(), Dtype::f32, {kQueries, heads, kDim}),
         .distance_bias = shape_.distance_bias == 0 ? TensorView{}
                                                    : dense_view(distance_bias_.data(), Dtype::f32,
                                                                 {heads, shape_.distance_bias}),
         .segments = std::span(&segment, 1),
         .level = level,
         .out = dense_view(out.data(), Dtype::f32, {kQueries, heads, kDim}),
         .lse_ln = dense_view(lse.data(), Dtype::f32, {kQueries, heads})},
        &ran);
    const ListView& list = pages.view.lists[0];
    for (int head = 0; head < heads; ++head) {
      std::vector<oracle::Row> rows;
      for (int64_t t = list.first; t < list.last; ++t) {
        Features f = meaning(t, head / (heads / kKvHeads));
        if (shape_.rope) f.key = oracle::rotate(f.key, t, shape_.rope.inv_freq, false, 1.0);
        rows.push_back({.key = f.key, .value = f.value, .position = t, .from = t});
      }
      for (size_t q = 0; q < kQueries; ++q) {
        const size_t cell = q * static_cast<size_t>(heads) + static_cast<size_t>(head);
        std::vector<double> query(queries_.begin() + static_cast<int64_t>(cell) * kDim,
                                  queries_.begin() + static_cast<int64_t>(cell + 1) * kDim);
        if (shape_.rope)
          query = oracle::rotate(query, positions[q], shape_.rope.inv_freq, false, 1.0);
        oracle::Head by_definition{.scale = shape_.scale};
        const auto first = distance_bias_.begin() + head * shape_.distance_bias;
        by_definition.distance_bias.assign(first, first + shape_.distance_bias);
        const oracle::Answer want = oracle::attend(query, positions[q], rows, by_definition, kDim);
        // Logits up to 20 in float32 over sums of 64 terms.
        for (size_t c = 0; c < kDim; ++c)
          EXPECT_NEAR(out[cell * kDim + c], want.out[c], 1e-4) << ran.level << " head " << head;
        EXPECT_NEAR(lse[cell], want.lse, 1e-4) << ran.level;
        if (HasFailure()) return ran;
      }
    }
    return ran;
  }

  std::shared_ptr<Engine> engine_ = make_cpu_engine({.threads = 2});
  Layer shape_{};
  std::vector<float> queries_, up_key_, up_value_, bias_, distance_bias_;
};

TEST_F(Operands, RowsOfAllHeadsAreReadInSlices) {
  for (const char* codec : {"float32", "bfloat16", "int8", "int4"})
    for (const bool hadamard : {false, true}) {
      Pages pages = pages_of({stream("x", 1, kKvHeads * kDim, codec, "{}", hadamard)});
      fill(pages);
      const Layout layout{.key = {.map = Operand::Map::slice, .stream = "x"},
                          .values = {{.map = Operand::Map::slice, .stream = "x"}}};
      const Ran ran = check(pages, layout, [&](int64_t t, int kv) {
        const std::vector<double> x = pages.stored(0, 0, 0, t);
        const std::vector<double> mine(x.begin() + kv * kDim, x.begin() + (kv + 1) * kDim);
        return Features{mine, mine};
      });
      EXPECT_EQ(ran.level, "fused");
    }
}

TEST_F(Operands, SlicesHaveMapsAndBiases) {
  const MapParts none{}, up{.up = true}, bias{.bias = true}, both{.up = true, .bias = true};
  struct Stream {
    const char* codec;
    int width;
    bool hadamard;
  };
  for (const Stream& s :
       {Stream{"float32", kKvHeads * kDim + 16, false},
        Stream{"float32", kKvHeads * kDim + 16, true}, Stream{"bfloat16", kKvHeads * kDim, false},
        Stream{"int4", kKvHeads * kDim, true}}) {
    Pages pages = pages_of({stream("x", 1, s.width, s.codec, "{}", s.hadamard)});
    fill(pages);
    for (const auto& [key, value] : std::vector<std::pair<MapParts, MapParts>>{
             {none, none}, {none, both}, {both, none}, {up, bias}, {bias, up}, {both, both}})
      for (const int group : {1, 4})
        for (const bool rotated : {false, true}) {
          SCOPED_TRACE(testing::Message()
                       << s.codec << (s.hadamard ? " hadamard" : "") << ", key " << key.up
                       << key.bias << ", value " << value.up << value.bias << ", group " << group
                       << (rotated ? ", rotated" : ""));
          shape_.num_heads = group * kKvHeads;
          shape_.rope = rotated ? rope() : Rope{};
          const Layout layout{.key = sliced(key, up_key_, rotated),
                              .values = {sliced(value, up_value_, false)}};
          const Ran ran = check(pages, layout, [&](int64_t t, int kv) {
            const std::vector<double> x = pages.stored(0, 0, 0, t);
            const std::vector<double> mine(x.begin() + kv * kDim, x.begin() + (kv + 1) * kDim);
            return Features{meant(key, up_key_, kv, mine), meant(value, up_value_, kv, mine)};
          });
          EXPECT_EQ(ran.level, key.any() && value.any()   ? "materialised"
                               : key.any() || value.any() ? "fused+materialised"
                                                          : "fused");
          EXPECT_EQ(ran.reason.find("its slices have a map") != std::string::npos,
                    key.up || value.up);
          EXPECT_EQ(ran.reason.find("its slices have a bias") != std::string::npos,
                    (key.bias && !key.up) || (value.bias && !value.up));
          if (HasFailure()) return;
        }
  }
}

/// Of column "scale", which it fills.
std::vector<double> row_scales(Pages& pages) {
  std::vector<double> scale;
  for (int64_t t = 0; t < kTokens; ++t) {
    scale.push_back(0.5 + 0.25 * static_cast<double>(t % 5));
    pages.set_float(0, "scale", t, static_cast<float>(scale.back()));
  }
  return scale;
}

TEST_F(Operands, RowsAreScaledBeforeTheirMapAndBias) {
  Pages pages = pages_of({stream("k", 1, kKvHeads * kDim, "float32"), stream("v", 2, 64, "int8")},
                         {.columns = {{"scale", Dtype::f32}}});
  fill(pages);
  const std::vector<double> scale = row_scales(pages);
  const auto scaled = [&](std::vector<double> x, int64_t t) {
    for (double& c : x) c *= scale[static_cast<size_t>(t)];
    return x;
  };
  const MapParts both{.up = true, .bias = true};
  Layout slices{.key = sliced(both, up_key_, false), .values = {sliced(both, up_key_, false)}};
  slices.key.stream = slices.values[0].stream = "k";
  slices.key.row_scale = slices.values[0].row_scale = "scale";
  check(pages, slices, [&](int64_t t, int kv) {
    const std::vector<double> x = scaled(pages.stored(0, 0, 0, t), t);
    const std::vector<double> y = meant(
        both, up_key_, kv, std::vector<double>(x.begin() + kv * kDim, x.begin() + (kv + 1) * kDim));
    return Features{y, y};
  });
  Layout latents;
  latents.key = {.map = Operand::Map::up,
                 .stream = "v",
                 .up = map_view(up_value_),
                 .bias = bias_view(),
                 .row_scale = "scale"};
  latents.values = {latents.key};
  for (const Level level : {Level::absorbed, Level::materialised})
    check(
        pages, latents,
        [&](int64_t t, int kv) {
          const std::vector<double> y =
              mapped(up_value_, kv, scaled(pages.stored(1, 0, kv / 2, t), t), true);
          return Features{y, y};
        },
        level);
}

TEST_F(Operands, LatentsAreAbsorbedOrRebuiltWithTheSameResult) {
  for (const char* codec : {"float32", "int4"})
    for (const bool hadamard : {false, true})
      for (const int units : {1, 2, 4}) {
        Pages pages = pages_of({stream("k", units, 64, codec, "{}", hadamard),
                                stream("v", units, 64, codec, "{}", hadamard)});
        fill(pages);
        Layout layout;
        layout.key = {.map = Operand::Map::up,
                      .stream = "k",
                      .up = map_view(up_key_),
                      .bias = dense_view(bias_.data(), Dtype::f32, {kKvHeads, kDim})};
        layout.values = {{.map = Operand::Map::up,
                          .stream = "v",
                          .up = map_view(up_value_),
                          .bias = dense_view(bias_.data(), Dtype::f32, {kKvHeads, kDim})}};
        const Meaning meaning = [&](int64_t t, int kv) {
          const int unit = kv * units / kKvHeads;
          return Features{mapped(up_key_, kv, pages.stored(0, 0, unit, t), true),
                          mapped(up_value_, kv, pages.stored(1, 0, unit, t), true)};
        };
        EXPECT_EQ(check(pages, layout, meaning, Level::absorbed).level, "absorbed");
        EXPECT_EQ(check(pages, layout, meaning, Level::materialised).level, "materialised");
        EXPECT_EQ(check(pages, layout, meaning).level, "absorbed");  // six rows per head: cheaper
      }
}

TEST_F(Operands, RotatedLatentsAreRebuilt) {
  shape_.rope = rope();
  Pages pages = pages_of({stream("k", 2, 64, "bfloat16"), stream("v", 2, 64, "bfloat16")});
  fill(pages);
  Layout layout;
  layout.key = {.map = Operand::Map::up, .stream = "k", .up = map_view(up_key_), .rotate = true};
  layout.values = {{.map = Operand::Map::up, .stream = "v", .up = map_view(up_value_)}};
  const Ran ran = check(pages, layout, [&](int64_t t, int kv) {
    return Features{mapped(up_key_, kv, pages.stored(0, 0, kv / 2, t), false),
                    mapped(up_value_, kv, pages.stored(1, 0, kv / 2, t), false)};
  });
  EXPECT_EQ(ran.level, "absorbed+materialised");
  EXPECT_NE(ran.reason.find("RoPE"), std::string::npos);
}

TEST_F(Operands, EveryLevelAddsTheBiasByDistance) {
  Pages pages = pages_of({stream("k", 2, 64, "int8"), stream("v", kKvHeads, kDim, "bfloat16")});
  fill(pages);
  Layout layout;
  layout.key = {
      .map = Operand::Map::up, .stream = "k", .up = map_view(up_key_), .bias = bias_view()};
  layout.values = {{.stream = "v"}};
  const Layout as_stored{.key = {.stream = "v"}, .values = {{.stream = "v"}}};
  for (const int entries : {1, 30, kTokens}) {
    shape_.distance_bias = entries;
    for (const Level level : {Level::absorbed, Level::materialised})
      check(
          pages, layout,
          [&](int64_t t, int kv) {
            return Features{mapped(up_key_, kv, pages.stored(0, 0, kv / 2, t), true),
                            pages.stored(1, 0, kv, t)};
          },
          level);
    for (const Level level : {Level::fused, Level::materialised})
      check(
          pages, as_stored,
          [&](int64_t t, int kv) {
            return Features{pages.stored(1, 0, kv, t), pages.stored(1, 0, kv, t)};
          },
          level);
  }
}

TEST_F(Operands, ContributionsAddUpAndRowsAreScaled) {
  Pages pages = pages_of({stream("k", 1, kKvHeads * kDim, "bfloat16"), stream("u", 1, 64, "int8")},
                         {.columns = {{"scale", Dtype::f32}}});
  fill(pages);
  const std::vector<double> scale = row_scales(pages);
  Layout layout;
  layout.key = {.map = Operand::Map::slice, .stream = "k", .row_scale = "scale"};
  layout.values = {{.map = Operand::Map::slice, .stream = "k", .row_scale = "scale"},
                   {.map = Operand::Map::up, .stream = "u", .up = map_view(up_value_)}};
  check(pages, layout, [&](int64_t t, int kv) {
    const std::vector<double> x = pages.stored(0, 0, 0, t);
    Features f;
    f.value = mapped(up_value_, kv, pages.stored(1, 0, 0, t), false);
    for (size_t c = 0; c < kDim; ++c) {
      f.key.push_back(scale[static_cast<size_t>(t)] * x[static_cast<size_t>(kv) * kDim + c]);
      f.value[c] += f.key.back();
    }
    return f;
  });
}

/// Keys and values from a stream, a column, and the row before.
struct Mixes final : Project {
  Layout layout(int) const override { return {}; }
  Needs needs(int, int64_t) const override { return Needs::none; }
  void rows(const Append&, NewRows&) const override {}
  void rebuild(const RebuildCall& call) const override {
    EXPECT_EQ(call.sequence, SeqId{5});
    const int64_t n = call.keys.size(0);
    for (int64_t t = 0; t < n; ++t) {
      const int64_t i = t + call.halo;
      const float* x = call.streams[0].as<float>() + i * 64;
      const float* before = call.halo == 0 ? nullptr : x - 64;
      const float column = call.columns[0].as<float>()[i];
      EXPECT_EQ(call.halo > 0 && call.positions[static_cast<size_t>(i - 1)] == -1,
                call.halo > 0 && call.positions[static_cast<size_t>(i)] == 0);
      for (int64_t c = 0; c < kKvHeads * kDim; ++c) {
        const float mixed = x[c % 64] + (before == nullptr ? 0.0f : 0.5f * before[c % 64]);
        call.keys.as<float>()[t * kKvHeads * kDim + c] = mixed;
        call.values.as<float>()[t * kKvHeads * kDim + c] = mixed * column;
      }
    }
  }
};

TEST_F(Operands, MethodsRebuildKeysAndValues) {
  for (const bool rotated : {false, true})
    for (const int halo : {0, 1}) {
      shape_.rope = rotated ? rope() : Rope{};
      shape_.distance_bias = halo * 50;
      Pages pages = pages_of({stream("x", 1, 64, "int8")},
                             {.page_tokens = 16, .columns = {{"weight", Dtype::f32}}});
      fill(pages);
      for (int64_t t = 0; t < kTokens; ++t)
        pages.set_float(0, "weight", t, static_cast<float>(t % 3) - 1);
      Layout layout;
      layout.streams = {{.name = "x", .width = 64}};
      layout.columns = {{"weight", Dtype::f32}};
      layout.rebuilds = true;
      layout.halo = halo;
      const Mixes mixes;
      const Ran ran = check(
          pages, layout,
          [&](int64_t t, int kv) {
            const std::vector<double> x = pages.stored(0, 0, 0, t);
            const std::vector<double> before =
                halo == 1 && t > 0 ? pages.stored(0, 0, 0, t - 1) : std::vector<double>(64, 0.0);
            Features f;
            for (int c = 0; c < kDim; ++c) {
              const size_t i = static_cast<size_t>((kv * kDim + c) % 64);
              f.key.push_back(x[i] + 0.5 * before[i]);
              f.value.push_back(f.key.back() * (static_cast<double>(t % 3) - 1));
            }
            return f;
          },
          Level::automatic, &mixes);
      EXPECT_EQ(ran.level, "materialised");
      EXPECT_EQ(ran.bytes_read, kTokens * (64 + 2 * 4 + 4) +
                                    halo * 0);  // codes, scales and minima of 2 groups, column
    }
}

/// A codec that somebody wrote outside: bytes are the numbers times 16, rounded.
Codec sixteenths() {
  Codec codec{.name = "sixteenths", .schema = "{}"};
  codec.layout = [](int width, const Json&) { return Encoded{.planes = {{.row_bytes = width}}}; };
  codec.encode_rows = [](TensorView rows, TensorView bytes) {
    for (int64_t i = 0; i < rows.numel(); ++i)
      bytes.as<int8_t>()[i] =
          static_cast<int8_t>(std::clamp(std::round(rows.as<float>()[i] * 16), -127.0f, 127.0f));
  };
  codec.decode_rows = [](TensorView bytes, TensorView rows) {
    for (int64_t i = 0; i < rows.numel(); ++i)
      rows.as<float>()[i] = static_cast<float>(bytes.as<int8_t>()[i]) / 16;
  };
  return codec;
}

TEST_F(Operands, CodecsWithoutKernelsAreReadMaterialised) {
  const Codec codec = sixteenths();
  StreamLayout keys{.name = "k", .units = kKvHeads, .width = kDim, .codec = &codec};
  keys.params = Json::object();
  keys.format = codec.layout(kDim, keys.params);
  Pages pages = pages_of({keys, stream("v", kKvHeads, kDim, "int4")});
  fill(pages);
  const Layout layout{.key = {.stream = "k"}, .values = {{.stream = "v"}}};
  const auto byte = [&](int64_t t, int unit, int c) {
    const auto& plane = pages.layout.streams[0].planes[0];
    return static_cast<int8_t>(pages.view.lists[0].page(
        t / 64)[plane.offset + unit * plane.unit_stride + t % 64 * kDim + c]);
  };
  const Ran ran = check(pages, layout, [&](int64_t t, int kv) {
    Features f{.value = pages.stored(1, 0, kv, t)};
    for (int c = 0; c < kDim; ++c) f.key.push_back(byte(t, kv, c) / 16.0);
    return f;
  });
  EXPECT_EQ(ran.level, "materialised");
  EXPECT_NE(ran.reason.find("sixteenths"), std::string::npos);
  EXPECT_EQ(ran.bytes_read, int64_t{kTokens} * kKvHeads * (kDim + kDim / 2 + 4));
}

TEST_F(Operands, FusedReadsEveryStoredByteOnce) {
  Pages pages =
      pages_of({stream("k", kKvHeads, kDim, "int8"), stream("v", kKvHeads, kDim, "int4")});
  fill(pages);
  const Layout layout{.key = {.stream = "k"}, .values = {{.stream = "v"}}};
  const Ran ran = check(pages, layout, [&](int64_t t, int kv) {
    return Features{pages.stored(0, 0, kv, t), pages.stored(1, 0, kv, t)};
  });
  EXPECT_EQ(ran.bytes_read, int64_t{kTokens} * kKvHeads * (kDim + 4 + kDim / 2 + 4));
  EXPECT_EQ(ran.flops, int64_t{2} * 2 * kTokens * kQueries * kHeads * kDim);
  EXPECT_GT(ran.scratch_bytes, 0);
}

TEST_F(Operands, LevelsThatCannotBeHadAreRefused) {
  Pages pages = pages_of({stream("k", 1, 64, "float32")});
  fill(pages);
  const auto code = [&](const Layout& layout, Level level) {
    try {
      check(pages, layout, [&](int64_t, int) { return Features{}; }, level);
    } catch (const Error& error) {
      return error.code();
    }
    return std::string("none");
  };
  Layout layout;
  layout.key = {.map = Operand::Map::up, .stream = "k", .up = map_view(up_key_)};
  layout.values = {{.map = Operand::Map::up, .stream = "k", .up = map_view(up_value_)}};
  EXPECT_EQ(code(layout, Level::fused), "E_UNSUPPORTED");
  shape_.rope = rope();
  layout.key.rotate = true;
  EXPECT_EQ(code(layout, Level::absorbed), "E_UNSUPPORTED");
  layout.key.stream = "absent";
  EXPECT_EQ(code(layout, Level::automatic), "E_SHAPE");
  layout.key = {.stream = "k"};
  EXPECT_EQ(code(layout, Level::automatic), "E_SHAPE");  // 64 features, heads of 32
}

TEST_F(Operands, MapsOfSlicesThatDoNotFitAreRefused) {
  Pages pages = pages_of({stream("x", 1, kKvHeads * kDim, "float32")});
  fill(pages);
  const auto code = [&](const std::function<void(Operand&)>& spoil, Level level, bool of_keys) {
    Layout layout{.key = {.map = Operand::Map::slice, .stream = "x"},
                  .values = {{.map = Operand::Map::slice, .stream = "x"}}};
    spoil(of_keys ? layout.key : layout.values[0]);
    try {
      check(
          pages, layout,
          [&](int64_t t, int kv) {
            const std::vector<double> x = pages.stored(0, 0, 0, t);
            const std::vector<double> mine(x.begin() + kv * kDim, x.begin() + (kv + 1) * kDim);
            return Features{mine, mine};
          },
          level);
    } catch (const Error& error) {
      return error.code();
    }
    return std::string("none");
  };
  for (const bool of_keys : {true, false}) {
    const auto with = [&](const std::function<void(Operand&)>& spoil,
                          Level level = Level::automatic) { return code(spoil, level, of_keys); };
    EXPECT_EQ(with([](Operand&) {}, Level::fused), "none");
    EXPECT_EQ(with([](Operand&) {}, Level::absorbed), "none");
    for (const Level level : {Level::fused, Level::absorbed}) {
      EXPECT_EQ(with([&](Operand& o) { o.bias = bias_view(); }, level), "E_UNSUPPORTED");
      EXPECT_EQ(with([&](Operand& o) { o.up = map_view(up_key_, kDim); }, level), "E_UNSUPPORTED");
    }
    EXPECT_EQ(with([&](Operand& o) { o.up = map_view(up_key_); }), "E_SHAPE");
    EXPECT_EQ(with([&](Operand& o) {
                o.up = map_view(up_key_, kDim);
                o.up.dtype = Dtype::i32;
              }),
              "E_SHAPE");
    EXPECT_EQ(
        with([&](Operand& o) { o.bias = dense_view(bias_.data(), Dtype::f32, {kDim, kKvHeads}); }),
        "E_SHAPE");
    EXPECT_EQ(
        with([&](Operand& o) { o.bias = dense_view(bias_.data(), Dtype::f32, {kDim * kKvHeads}); }),
        "E_SHAPE");
  }
}

}  // namespace
}  // namespace kvlab::test
