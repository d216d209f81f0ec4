// The order of calls, passes that fail, and what no random life has: states, columns, mass, fewer
// rows, replaced rows, encoder rows.

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>

#include "core/types.h"
#include "tests/core/cache/rig.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

// ---- order ----

TEST(Lifecycle, CallsOutOfTurnAreRefused) {
  Rig rig({.layers = {plain_layer(), plain_layer()}});
  Cache& cache = *rig.cache;
  const SeqId id = cache.add_sequence();
  EXPECT_REFUSED("E_ORDER", "belongs between", cache.end_chunk(ChunkEnd::step));
  EXPECT_REFUSED("E_ORDER", "without an open chunk", cache.cancel_chunk());
  EXPECT_REFUSED("E_ORDER", "not attended yet", cache.ran(0));
  rig.begin(id, 2);
  EXPECT_REFUSED("E_ORDER", "inside an open chunk", rig.begin(id, 2));
  EXPECT_REFUSED("E_ORDER", "layer 0 has not appended", rig.attend(0));
  EXPECT_REFUSED("E_ORDER", "layer 0 has not appended", cache.end_chunk(ChunkEnd::step));
  EXPECT_REFUSED("E_ORDER", "in the open chunk", cache.fork(id));
  EXPECT_REFUSED("E_ORDER", "in the open chunk", cache.truncate(id, 0));
  EXPECT_REFUSED("E_ORDER", "in the open chunk", cache.drop(id));
  EXPECT_REFUSED("E_ORDER", "in the open chunk", cache.save(id, "nowhere"));
  rig.append(0);
  EXPECT_REFUSED("E_ORDER", "has appended in this pass already", rig.append(0));
  rig.append(1);
  EXPECT_REFUSED("E_ORDER", "has gone on", rig.attend(0));
  rig.attend(1);
  cache.end_chunk(ChunkEnd::step);
  EXPECT_EQ(cache.tokens_seen(id), 2);
}

TEST(Lifecycle, RowsThatAreNotThePasssAreRefused) {
  Rig rig({.layers = {plain_layer()}});
  Cache& cache = *rig.cache;
  const SeqId id = cache.add_sequence(), gone = cache.add_sequence();
  cache.drop(gone);
  EXPECT_REFUSED("E_SEQUENCE", "there is no sequence 1", rig.begin(gone, 1));
  EXPECT_REFUSED("E_POSITION", "has seen 0 tokens", rig.begin_at(id, {1}, {}));
  EXPECT_REFUSED("E_POSITION", "not 5", rig.begin_at(id, {0, 5}, {}));
  EXPECT_REFUSED("E_SHAPE", "has no rows", rig.begin_at(id, {}, {}));
  EXPECT_REFUSED("E_ORDER", "none", rig.begin_at(id, {0}, {.encoder = true}));
  rig.begin(id, 1);
  const float numbers[8] = {};
  const RowMap rows = rig.rows();
  const auto wrong = [&](Append append) { cache.append(append); };
  EXPECT_REFUSED("E_LAYER", "no layer 1", wrong({.layer = 1, .rows = rows}));
  EXPECT_REFUSED("E_NEEDS", "was given nothing and wants keys, values", wrong({.rows = rows}));
  EXPECT_REFUSED("E_SHAPE", "keys is [1, 2, 3] float32, not [1, 2, 4] float32",
                 wrong({.rows = rows,
                        .keys = dense_view(numbers, Dtype::f32, {1, 2, 3}),
                        .values = dense_view(numbers, Dtype::f32, {1, 2, 4})}));
  EXPECT_REFUSED("E_SHAPE", "bfloat16",
                 wrong({.rows = rows,
                        .keys = dense_view(numbers, Dtype::bf16, {1, 2, 4}),
                        .values = dense_view(numbers, Dtype::f32, {1, 2, 4})}));
  rig.append(0);  // a refused argument leaves the pass as it was
  rig.attend(0);
  cache.end_chunk(ChunkEnd::step);
}

/// Throws in one of its hooks.
struct Faulty final : Select {
  mutable std::string fails{};
  Selection selection(int) const override { return {.flags = true, .recent = 3}; }
  void fail_in(const std::string& hook) const {
    if (fails == hook) fail("E_UNSUPPORTED", "faulty: ", hook);
  }
  void admit(const Append&, NewRows& rows) const override {
    std::fill_n(rows.keep().as<u8>(), rows.keep().numel(), u8{0});
    fail_in("admit");
  }
  void observe(LiveRows&, const Observed&) const override { fail_in("observe"); }
  bool due(ChunkEnd) const override { return true; }
  void score(LiveRows&, Ragged&) const override { fail_in("score"); }
};

TEST(Lifecycle, APassThatBrokeCanOnlyBeCancelledAndThenNeverWas) {
  for (const auto addressing : {Where::Addressing::paged, Where::Addressing::contiguous})
    for (const char* hook : {"admit", "observe", "score"}) {
      const auto faulty = std::make_shared<Faulty>();
      const auto make = [&] {
        RigConfig config{.layers = {plain_layer(), plain_layer()},
                         .where = {.addressing = addressing}};
        config.composition.encode = encoded_as("column4", 2);
        config.composition.selects = {faulty};
        return Rig(std::move(config));
      };
      Rig rig = make(), twin = make();
      const SeqId id = rig.cache->add_sequence(), other = twin.cache->add_sequence();
      rig.pass(id, 11), twin.pass(other, 11);
      const kvlab::Bytes before = rig.cache->bytes();
      faulty->fails = hook;
      EXPECT_REFUSED("E_UNSUPPORTED", hook, rig.pass(id, 7));
      faulty->fails = "";
      EXPECT_REFUSED("E_ORDER", "call cancel_chunk", rig.append(1));
      EXPECT_REFUSED("E_ORDER", "call cancel_chunk", rig.attend(0));
      EXPECT_REFUSED("E_ORDER", "call cancel_chunk", rig.cache->end_chunk(ChunkEnd::chunk));
      rig.cache->cancel_chunk();
      EXPECT_EQ(rig.cache->bytes().cache_bytes(), before.cache_bytes());
      for (int i = 0; i < 4; ++i) EXPECT_EQ(rig.pass(id, 5), twin.pass(other, 5)) << hook;
    }
}

TEST(Lifecycle, FlagsOfACancelledPassForbidNothing) {
  RigConfig config{.layers = {plain_layer()}};
  config.composition.selects = {std::make_shared<Faulty>()};
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  rig.begin(id, 3);
  rig.append(0);
  rig.cache->cancel_chunk();
  rig.pass(id, 2, ReadPolicy::stored);  // nothing of the past can expire inside
}

// ---- states and columns ----

TEST(States, AreTheModelsOwnAndKeptWhenThePassEnds) {
  Rig rig({.layers = {plain_layer()}, .states = {{.name = "memory", .sizes = {2, 3}}}});
  Cache& cache = *rig.cache;
  const SeqId id = cache.add_sequence();
  EXPECT_REFUSED("E_ORDER", "belongs between", cache.state(id, "memory"));
  const auto write = [&](float value) {
    const TensorView state = cache.state(id, "memory");
    EXPECT_EQ(state.numel(), 6);
    const float old = state.as<float>()[5];
    state.as<float>()[5] = value;
    return old;
  };
  rig.begin(id, 1);
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `memory`?", cache.state(id, "memori"));
  EXPECT_EQ(write(7), 0);
  EXPECT_EQ(write(8), 7);
  cache.cancel_chunk();
  rig.begin(id, 1);
  EXPECT_EQ(write(9), 0) << "a cancelled pass writes nothing";
  rig.append(0);
  cache.end_chunk(ChunkEnd::step);
  const SeqId child = cache.fork(id);
  rig.begin(child, 1);
  EXPECT_EQ(cache.state(child, "memory").as<float>()[5], 9);
  cache.state(child, "memory").as<float>()[5] = 1;
  rig.append(0);
  cache.end_chunk(ChunkEnd::step);
  rig.begin(id, 1);
  EXPECT_EQ(write(9), 9) << "a fork writes its own";
  cache.cancel_chunk();
  EXPECT_EQ(cache.bytes().state, 2 * 6 * 4);
  EXPECT_REFUSED("E_TRUNCATE", "states", cache.truncate(id, 0));
}

/// Adds up the mass of each row in a column, and remembers what the column holds at the end.
struct Mass final : Select {
  mutable std::map<int32_t, float> held{};
  Selection selection(int) const override {
    return {.granularity = Scope::head,
            .drops = false,
            .mass = {.wanted = true},
            .columns = {{.name = "mass"}}};
  }
  void observe(LiveRows& live, const Observed& seen) const override {
    const Ragged column = live.column("mass"), positions = live.positions();
    held.clear();
    for (int64_t row = 0; row < positions.indptr.back(); ++row) {
      for (int64_t h = 0; h < seen.mass.values.size(1); ++h)
        column.values.as<float>()[row] +=
            seen.mass.values.as<float>()[row * seen.mass.values.size(1) + h];
      held[positions.values.as<int32_t>()[row]] += column.values.as<float>()[row];
    }
  }
};

TEST(Mass, AddsUpToOnePerQueryAndHeadAndStaysWithItsRow) {
  for (const char* codec : {"float32", "coarse", "column4", "mixed8"})
    for (const ReadPolicy read : {ReadPolicy::raw_chunk, ReadPolicy::masked}) {
      const auto mass = std::make_shared<Mass>();
      RigConfig config{.layers = {plain_layer(4, 2)}, .where = {.page_tokens = 8}};
      config.composition.encode = encoded_as(codec, 3, 2);
      config.composition.selects = {mass};
      Rig rig(std::move(config));
      const SeqId id = rig.cache->add_sequence();
      int64_t queries = 0;
      for (const int64_t n : {1, 9, 1, 20, 2, 1, 1}) {
        if (n == 2) {  // a pass that never was
          rig.begin(id, 6, read);
          rig.append(0);
          rig.attend(0);
          rig.cache->cancel_chunk();
        }
        rig.pass(id, n, read);
        queries += n;
        float sum = 0;
        for (const auto& [position, value] : mass->held) sum += value;
        EXPECT_NEAR(sum, static_cast<float>(4 * queries), 1e-3F * static_cast<float>(queries))
            << codec << " after " << queries << " tokens, " << name_of(read);
        EXPECT_EQ(std::ssize(mass->held), queries);
      }
    }
}

// ---- fewer rows ----

/// Reads the newest rows alone.
struct Nearest final : Select {
  explicit Nearest(int64_t most) : rows(most) {}
  Selection selection(int) const override { return {.drops = false}; }
  Ragged narrow(LiveRows& live, const Attend& queries) const override {
    const Ragged positions = live.positions();
    indptr = {0}, chosen = {};
    const int32_t q = queries.rows.positions.back();
    for (int64_t row = 0; row < positions.indptr.back(); ++row)
      if (positions.values.as<int32_t>()[row] > q - rows) chosen.push_back(row);
    indptr.push_back(std::ssize(chosen));
    return {indptr, dense_view(chosen.data(), Dtype::i64, {std::ssize(chosen)})};
  }
  int64_t rows;
  mutable std::vector<int64_t> indptr{}, chosen{};
};

TEST(Narrow, ReadsTheChosenRowsAndDropsNone) {
  for (const char* codec : {"float32", "mixed8"}) {
    RigConfig config{.layers = {plain_layer(4, 2)}};
    config.composition.encode = encoded_as(codec, 3);
    config.composition.selects = {std::make_shared<Nearest>(5)};
    Rig rig(std::move(config));
    RigConfig windowed{.layers = {plain_layer(4, 2)}};
    windowed.composition.encode = encoded_as(codec, 3);
    windowed.layers[0].window_left = 4;
    Rig other(std::move(windowed));
    const SeqId id = rig.cache->add_sequence(), twin = other.cache->add_sequence();
    for (int i = 0; i < 30; ++i)
      EXPECT_EQ(rig.pass(id, 1), other.pass(twin, 1)) << codec << " " << i;
    EXPECT_EQ(rig.cache->live_rows(0, id)[0], 30);
  }
}

// ---- a bias by distance ----

Layer biased_layer(int entries) {
  Layer layer = plain_layer(2, 1);
  layer.distance_bias = entries;
  return layer;
}

/// What the query at q reads of rows that came as they are; `seen` says how far each lies off, -1:
/// not at all.
std::array<double, 8> attended(const Rig& rig, int32_t q,
                               const std::function<int64_t(int32_t)>& seen) {
  const std::vector<float> bias = rig.distance_bias(0);
  const int64_t entries = rig.shape.layers[0].distance_bias;
  std::array<double, 8> out{};
  for (int h = 0; h < 2; ++h) {
    double sum = 0;
    for (int32_t p = 0; p <= q; ++p) {
      if (seen(p) < 0) continue;
      double logit = bias[at(h * entries + std::min(seen(p), entries - 1))];
      for (int c = 0; c < 4; ++c) logit += 0.5 * made_up(0, 2, q, h * 4 + c) * made_up(0, 0, p, c);
      sum += std::exp(logit);
      for (int c = 0; c < 4; ++c) out[at(h * 4 + c)] += std::exp(logit) * made_up(0, 1, p, c);
    }
    for (int c = 0; c < 4; ++c) out[at(h * 4 + c)] /= sum;
  }
  return out;
}

TEST(DistanceBias, IsAddedInEveryPartOfAList) {
  for (const int entries : {1, 5, 100}) {
    RigConfig config{.layers = {biased_layer(entries)}, .where = {.page_tokens = 4}};
    config.composition.encode = encoded_as("exact4", 3, 2);
    Rig rig(std::move(config));
    const SeqId id = rig.cache->add_sequence();
    for (const int n : {9, 1, 7, 1}) {
      const int64_t begin = rig.cache->tokens_seen(id);
      const std::vector<float> out = rig.pass(id, n, ReadPolicy::stored);
      for (int i = 0; i < n; ++i) {
        const auto q = static_cast<int32_t>(begin + i);
        const auto want = attended(rig, q, [&](int32_t p) { return q - p; });
        for (int c = 0; c < 8; ++c) EXPECT_NEAR(out[at(i * 8 + c)], want[at(c)], 1e-5);
      }
    }
  }
}

/// Sinks and a window, renumbered.
struct Streaming final : Select {
  Selection selection(int) const override {
    return {.flags = true, .sinks = 2, .recent = 4, .reindexes = true};
  }
  void admit(const Append&, NewRows& rows) const override {
    std::fill_n(rows.keep().as<u8>(), rows.keep().numel(), u8{0});
  }
};

TEST(DistanceBias, OfARenumberedSinkBeginsAtTheWindow) {
  RigConfig config{.layers = {biased_layer(12)}};
  config.composition.selects = {std::make_shared<Streaming>()};
  config.composition.capabilities.unrotated_keys = true;
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  for (int32_t q = 0; q < 20; ++q) {
    const std::vector<float> out = rig.pass(id, 1);
    const auto want = attended(rig, q, [&](int32_t p) -> int64_t {
      if (p < 2) return std::min(q, 5) - p;
      return p > q - 4 ? q - p : -1;
    });
    for (int c = 0; c < 8; ++c) EXPECT_NEAR(out[at(c)], want[at(c)], 1e-5) << q;
  }
}

TEST(DistanceBias, IsGivenExactlyWhereTheLayerHasOne) {
  Rig rig({.layers = {biased_layer(3), plain_layer(2, 1)}});
  rig.begin(rig.cache->add_sequence(), 1);
  const float numbers[8] = {};
  float out[8];
  const auto attend = [&](int layer, const TensorView& bias) {
    rig.cache->attend({.layer = layer,
                       .rows = rig.rows(),
                       .queries = dense_view(numbers, Dtype::f32, {1, 2, 4}),
                       .out = dense_view(out, Dtype::f32, {1, 2, 4}),
                       .distance_bias = bias});
  };
  rig.append(0);
  EXPECT_REFUSED("E_SHAPE", "not float32 [2, 3]", attend(0, {}));
  EXPECT_REFUSED("E_SHAPE", "not float32 [2, 3]",
                 attend(0, dense_view(numbers, Dtype::f32, {3, 2})));
  EXPECT_REFUSED("E_SHAPE", "not float32 [2, 3]",
                 attend(0, dense_view(numbers, Dtype::bf16, {2, 3})));
  EXPECT_REFUSED("E_SHAPE", "not float32 [2, 3]", attend(0, dense_view(numbers, Dtype::f32, {6})));
  attend(0, dense_view(numbers, Dtype::f32, {2, 3}));
  rig.append(1);
  EXPECT_REFUSED("E_SHAPE", "the layer has none",
                 attend(1, dense_view(numbers, Dtype::f32, {2, 3})));
  attend(1, {});
  rig.cache->end_chunk(ChunkEnd::step);
}

// ---- slices with a map ----

constexpr float kBasis[2][4][4] = {
    {{0, 1, 0, 0}, {-1, 0, 0, 0}, {0, 0, 0.6F, 0.8F}, {0, 0, -0.8F, 0.6F}},
    {{0, 0, 0, 1}, {0, 0, 1, 0}, {0, 1, 0, 0}, {1, 0, 0, 0}}};
constexpr float kBias[2][4] = {{1, 0, -2, 0.5F}, {0.25F, -1, 0, 3}};

/// Rows of both heads side by side: keys without their bias and in a basis of their own, values
/// without their bias.
struct Sliced final : Project {
  Layout layout(int) const override {
    const TensorView bias = dense_view(kBias, Dtype::f32, {2, 4});
    return {.streams = {{.name = "key", .width = 8}, {.name = "value", .width = 8}},
            .key = {.map = Operand::Map::slice,
                    .stream = "key",
                    .up = dense_view(kBasis, Dtype::f32, {2, 4, 4}),
                    .bias = bias,
                    .rotate = true},
            .values = {{.map = Operand::Map::slice, .stream = "value", .bias = bias}}};
  }
  Needs needs(int, int64_t) const override { return Needs::keys | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    std::copy_n(append.keys.as<float>(), append.keys.numel(), out.stream("key").as<float>());
    std::copy_n(append.values.as<float>(), append.values.numel(), out.stream("value").as<float>());
  }
};

TEST(Slices, WithAMapAreReadAsTheyMaterialise) {
  Layer layer = plain_layer();
  layer.rope = {.style = Rope::Style::half_split, .rotary_dim = 4, .inv_freq = {1, 0.3}};
  RigConfig config{.layers = {layer}, .where = {.page_tokens = 4}};
  config.composition.project = std::make_shared<Sliced>();
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  rig.pass(id, 10);
  const std::vector<float> out = rig.pass(id, 1);
  float keys[11][2][4], values[11][2][4];
  rig.cache->materialise(0, id, {0, 11}, dense_view(keys, Dtype::f32, {11, 2, 4}),
                         dense_view(values, Dtype::f32, {11, 2, 4}));
  const auto turned = [](const auto& x, int p) {
    const double a = std::cos(p), b = std::sin(p), c = std::cos(0.3 * p), d = std::sin(0.3 * p);
    return std::array<double, 4>{x[0] * a - x[2] * b, x[1] * c - x[3] * d, x[0] * b + x[2] * a,
                                 x[1] * d + x[3] * c};
  };
  for (int h = 0; h < 2; ++h) {
    float query[4];
    for (int c = 0; c < 4; ++c) query[c] = made_up(0, 2, 10, h * 4 + c);
    const auto q = turned(query, 10);
    double sum = 0, want[4] = {};
    for (int p = 0; p < 11; ++p) {
      double logit = 0, key[4];
      for (int c = 0; c < 4; ++c) {
        key[c] = kBias[h][c];
        for (int i = 0; i < 4; ++i) key[c] += kBasis[h][c][i] * made_up(0, 0, p, h * 4 + i);
        EXPECT_NEAR(keys[p][h][c], key[c], 1e-6);
        EXPECT_NEAR(values[p][h][c], made_up(0, 1, p, h * 4 + c) + kBias[h][c], 1e-6);
      }
      const auto k = turned(key, p);
      for (size_t c = 0; c < 4; ++c) logit += 0.5 * q[c] * k[c];
      sum += std::exp(logit);
      for (int c = 0; c < 4; ++c) want[c] += std::exp(logit) * values[p][h][c];
    }
    for (int c = 0; c < 4; ++c) EXPECT_NEAR(out[at(h * 4 + c)], want[c] / sum, 1e-5);
  }
}

// ---- replaced rows ----

TEST(Replace, RewritesRowsWhereTheyLie) {
  for (const char* codec : {"float32", "coarse"})
    for (const bool cancels : {true, false}) {
      const auto make = [&] {
        RigConfig config{.layers = {plain_layer()}, .where = {.page_tokens = 4}};
        config.composition.encode = encoded_as(codec, 3, 2);
        return Rig(std::move(config));
      };
      Rig rig = make(), twin = make();
      const SeqId id = rig.cache->add_sequence(), parent = twin.cache->add_sequence();
      rig.pass(id, 20), twin.pass(parent, 20);
      const SeqId child = twin.cache->fork(parent);
      const std::vector<int32_t> replaced{0, 5, 6, 18};
      twin.begin_at(child, replaced, {.read = ReadPolicy::stored, .write = Chunk::Write::replace});
      twin.append(0, 1);
      const std::vector<float> out = twin.attend(0);
      cancels ? twin.cache->cancel_chunk() : twin.cache->end_chunk(ChunkEnd::chunk);
      std::vector<float> keys(20 * 8), values(20 * 8);
      const auto look = [&](Rig& of, SeqId sequence) {
        of.cache->materialise(0, sequence, {0, 20}, dense_view(keys.data(), Dtype::f32, {20, 2, 4}),
                              dense_view(values.data(), Dtype::f32, {20, 2, 4}));
        return keys;
      };
      const std::vector<float> old = look(rig, id), now = look(twin, child);
      EXPECT_EQ(look(twin, parent), old) << "a fork writes its own";
      for (int32_t p = 0; p < 20; ++p) {
        const bool changed = !cancels && std::ranges::count(replaced, p) > 0;
        const bool same =
            std::equal(old.begin() + p * 8, old.begin() + p * 8 + 8, now.begin() + p * 8);
        EXPECT_EQ(same, !changed) << codec << " position " << p;
        for (int c = 0; changed && c < 8; ++c)
          EXPECT_NEAR(now[at(p * 8 + c)], made_up(0, 3, p, c), 2.0 / 15 / 2 + 1e-6);
      }
      if (cancels) {
        EXPECT_EQ(twin.pass(child, 4), rig.pass(id, 4));
      }
    }
}

TEST(Replace, OfATileOrOfWhatIsGoneIsRefused) {
  RigConfig config{.layers = {plain_layer()}};
  config.composition.encode = encoded_as("column4");
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  rig.pass(id, 6);
  const Chunk replace{.read = ReadPolicy::stored, .write = Chunk::Write::replace};
  EXPECT_REFUSED("E_READ_POLICY", "read `stored`",
                 rig.begin_at(id, {5}, {.write = Chunk::Write::replace}));
  EXPECT_REFUSED("E_POSITION", "below the 6 tokens", rig.begin_at(id, {6}, replace));
  rig.begin_at(id, {1, 5}, replace);
  EXPECT_REFUSED("E_ALIGN", "encoded together", rig.append(0));
  rig.cache->cancel_chunk();
  rig.begin_at(id, {5}, replace);
  rig.append(0, 1);
  rig.cache->end_chunk(ChunkEnd::chunk);
}

// ---- encoder rows ----

TEST(Cross, EveryQueryReadsEveryEncoderRow) {
  for (const char* codec : {"float32", "mixed8"}) {
    Layer cross = plain_layer();
    cross.kind = Layer::Kind::cross;
    RigConfig config{.layers = {plain_layer(), cross}, .where = {.page_tokens = 8}};
    config.composition.encode = encoded_as(codec);
    Rig rig(std::move(config));
    Cache& cache = *rig.cache;
    const SeqId id = cache.add_sequence();
    constexpr int kRows = 19;
    std::vector<int32_t> positions(kRows);
    std::iota(positions.begin(), positions.end(), 0);
    rig.begin_at(id, positions, {.encoder = true});
    EXPECT_EQ(cache.needs(0, kRows), Needs::none);
    rig.append(1);
    cache.end_chunk(ChunkEnd::prompt);
    EXPECT_EQ(cache.tokens_seen(id), 0);
    rig.begin(id, 3);
    rig.append(0);
    rig.attend(0);
    const std::vector<float> out = rig.attend(1);
    cache.end_chunk(ChunkEnd::prompt);
    std::vector<float> keys(kRows * 8), values(kRows * 8);
    cache.materialise(1, id, {0, kRows}, dense_view(keys.data(), Dtype::f32, {kRows, 2, 4}),
                      dense_view(values.data(), Dtype::f32, {kRows, 2, 4}));
    for (int q = 0; q < 3; ++q)
      for (int h = 0; h < 2; ++h) {
        double sum = 0, want[4] = {};
        for (int p = 0; p < kRows; ++p) {
          double logit = 0;
          for (int c = 0; c < 4; ++c)
            logit += 0.5 * made_up(1, 2, q, h * 4 + c) * keys[at(p * 8 + h * 4 + c)];
          sum += std::exp(logit);
          for (int c = 0; c < 4; ++c) want[c] += std::exp(logit) * values[at(p * 8 + h * 4 + c)];
        }
        for (int c = 0; c < 4; ++c) EXPECT_NEAR(out[at(q * 8 + h * 4 + c)], want[c] / sum, 1e-5);
      }
  }
}

TEST(Cross, IsAskedOnceThereAreEncoderRows) {
  Layer cross = plain_layer();
  cross.kind = Layer::Kind::cross;
  Rig rig({.layers = {plain_layer(), cross}});
  Cache& cache = *rig.cache;
  const SeqId id = cache.add_sequence();
  EXPECT_EQ(cache.encoder_tokens_seen(id), 0);
  rig.begin(id, 2);
  rig.append(0);
  rig.attend(0);
  EXPECT_REFUSED("E_ORDER", "has no encoder tokens", rig.attend(1));
  cache.cancel_chunk();
  rig.begin_at(id, {0, 1, 2}, {.encoder = true});
  rig.append(1);
  cache.end_chunk(ChunkEnd::prompt);
  EXPECT_EQ(cache.encoder_tokens_seen(id), 3);
  EXPECT_EQ(cache.encoder_tokens_seen(cache.fork(id)), 3);
  rig.begin(id, 2);
  rig.append(0);
  rig.attend(0);
  rig.attend(1);
  cache.end_chunk(ChunkEnd::prompt);
}

}  // namespace
}  // namespace kvlab::test
