// Bytes are what was allocated: formulas, sharing, what eviction gives back, peaks and budgets.

#include <gtest/gtest.h>

#include "tests/core/cache/rig.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

constexpr int64_t kGranule = 64 << 10;

/// Rows live `recent` tokens, then die; every `every`-th for ever.
struct Window final : Select {
  Window(int64_t newest, int64_t keep_every) : recent(newest), every(keep_every) {}
  Selection selection(int) const override { return {.flags = true, .recent = recent}; }
  void admit(const Append& append, NewRows& rows) const override {
    const TensorView keep = rows.keep();
    for (int64_t i = 0; i < keep.size(0); ++i)
      *keep.at(i) = every > 0 && append.rows.positions[static_cast<size_t>(i)] % every == 0;
  }
  int64_t recent, every;
};

/// The newest `rows` rows of each list stay, judged after every pass.
struct Newest final : Select {
  explicit Newest(int64_t most) : rows(most) {}
  Selection selection(int) const override { return {}; }
  bool due(ChunkEnd) const override { return true; }
  void score(LiveRows& live, Ragged& scores) const override {
    const Ragged positions = live.positions();
    for (int64_t i = 0; i < positions.indptr.back(); ++i)
      scores.values.as<float>()[i] = static_cast<float>(positions.values.as<int32_t>()[i]);
  }
  void allocate(const ModelShape&, Budgets& budgets) const override {
    for (int64_t& most : budgets.rows) most = std::min(most, rows);
  }
  int64_t rows;
};

TEST(Accounts, DenseTakesExactlyItsFormula) {
  for (const int64_t n : {1, 63, 64, 65, 1000}) {
    Rig rig({.layers = {plain_layer(4, 2, 8, 16), plain_layer(4, 4, 4, 4)}});
    const SeqId id = rig.cache->add_sequence();
    rig.store(id, n);
    const kvlab::Bytes bytes = rig.cache->bytes();
    EXPECT_EQ(bytes.payload, n * 4 * (2 * (8 + 16) + 4 * (4 + 4)));
    EXPECT_EQ(bytes.metadata, 0);
    EXPECT_EQ(bytes.residual, 0);
    EXPECT_EQ(bytes.cache_bytes(), bytes.payload);
    // One contiguous list per layer, each in whole granules.
    EXPECT_EQ(bytes.committed % kGranule, 0);
    EXPECT_LE(bytes.slack(), 2 * (kGranule + 64 * 4 * 4 * 24));
  }
}

TEST(Accounts, LayersAddUpToTheCache) {
  RigConfig config{.layers = {plain_layer(), plain_layer(4, 4)}};
  config.composition.encode = encoded_as("coarse", 3);
  config.composition.selects = {std::make_shared<Window>(5, 3)};
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  for (int i = 0; i < 5; ++i) rig.store(id, 9);
  kvlab::Bytes sum;
  for (int layer = 0; layer < 2; ++layer) {
    const kvlab::Bytes one = rig.cache->bytes(layer);
    sum.payload += one.payload, sum.metadata += one.metadata, sum.residual += one.residual;
    EXPECT_LE(one.cache_bytes(), one.committed);
  }
  const kvlab::Bytes all = rig.cache->bytes();
  EXPECT_EQ(sum.payload, all.payload);
  EXPECT_EQ(sum.metadata, all.metadata);
  EXPECT_EQ(sum.residual, all.residual);
}

TEST(Accounts, AWindowStaysARingHoweverLongTheText) {
  for (const auto addressing : {Where::Addressing::paged, Where::Addressing::contiguous}) {
    RigConfig config{.layers = {plain_layer()},
                     .where = {.addressing = addressing, .page_tokens = 8}};
    config.composition.selects = {std::make_shared<Window>(20, 0)};
    Rig rig(std::move(config));
    const SeqId id = rig.cache->add_sequence();
    constexpr int64_t kRow = 4 * 2 * (4 + 4);
    int64_t committed = 0;
    for (int i = 0; i < 600; ++i) {
      rig.store(id, 1);
      // 20 rows that live and those of a page that has begun to die.
      EXPECT_LE(rig.cache->bytes().payload, (20 + 8) * kRow) << i;
      if (i == 100) committed = rig.cache->bytes().committed;
      if (i > 100) {
        EXPECT_LE(rig.cache->bytes().committed, committed + 4 * 8) << i;  // entries of page tables
      }
    }
    EXPECT_EQ(rig.engine->rows_moved, 0) << "nothing has to move";
  }
}

TEST(Accounts, ScatteredSurvivorsAreMovedTogether) {
  for (const double share : {0.0, 0.25, 0.5})
    for (const auto addressing : {Where::Addressing::paged, Where::Addressing::contiguous}) {
      RigConfig config{
          .layers = {plain_layer()},
          .where = {.addressing = addressing, .page_tokens = 8, .compact_share = share}};
      config.composition.encode = encoded_as("coarse");
      config.composition.selects = {std::make_shared<Window>(10, 5)};  // a fifth stays
      Rig rig(std::move(config));
      const SeqId id = rig.cache->add_sequence();
      constexpr int64_t kRow = 2 * (4 + 4);
      for (int64_t n = 1; n <= 500; ++n) {
        rig.store(id, 1);
        const auto live = static_cast<double>(rig.cache->live_rows(0, id)[0]);
        EXPECT_LE(static_cast<double>(rig.cache->bytes().payload), kRow * (live / (1 - share) + 1))
            << n << " tokens";
      }
      if (share > 0) {  // work is spread: each compaction removes a share of what it moves
        EXPECT_LE(static_cast<double>(rig.engine->rows_moved), 500 * (1 + 1 / share));
      }
    }
}

TEST(Accounts, ABudgetGivesItsMemoryBack) {
  for (const char* codec : {"coarse", "column4", "mixed8"}) {
    RigConfig config{.layers = {plain_layer()}, .where = {.page_tokens = 8}};
    config.composition.encode = encoded_as(codec);
    config.composition.selects = {std::make_shared<Newest>(24)};
    Rig rig(std::move(config));
    const SeqId id = rig.cache->add_sequence();
    constexpr int64_t kRow = 2 * (4 + 4);
    for (int64_t n = 1; n <= 300; ++n) {
      rig.store(id, 1, ReadPolicy::masked, ChunkEnd::step);
      EXPECT_LE(rig.cache->live_rows(0, id)[0], 24);
      // Encoded rows, a tile that is half dead, rows that wait for their tile exactly as they came.
      EXPECT_LE(rig.cache->bytes().payload, kRow * (24 / 3 * 4 + 16) + 4 * kRow * 16) << codec;
    }
  }
}

TEST(Accounts, AForkCostsWhatItWrites) {
  for (const auto addressing : {Where::Addressing::paged, Where::Addressing::contiguous}) {
    Rig rig({.layers = {plain_layer()}, .where = {.addressing = addressing, .page_tokens = 8}});
    const SeqId id = rig.cache->add_sequence();
    rig.store(id, 1000);
    const kvlab::Bytes alone = rig.cache->bytes();
    const SeqId child = rig.cache->fork(id);
    EXPECT_EQ(rig.cache->bytes().payload, alone.payload) << "shared rows count once";
    rig.store(child, 3);
    const kvlab::Bytes both = rig.cache->bytes();
    constexpr int64_t kRow = 4 * 2 * (4 + 4);
    EXPECT_GE(both.payload, alone.payload + 3 * kRow);
    EXPECT_EQ(rig.cache->payload(id), 1000 * kRow);
    EXPECT_EQ(rig.cache->payload(child), 1003 * kRow) << "whoever shares them";
    // A page, or a granule where memory is shared by granules, is copied to be written.
    const int64_t unit = addressing == Where::Addressing::paged ? 8 * kRow : kGranule;
    EXPECT_LE(both.payload, alone.payload + unit + 3 * kRow);
    rig.cache->drop(id);
    EXPECT_EQ(rig.cache->bytes().payload, 1003 * kRow);
    rig.cache->drop(child);
    EXPECT_EQ(rig.cache->bytes().cache_bytes(), 0);
    EXPECT_EQ(rig.cache->bytes().committed, 0);
  }
}

TEST(Accounts, ThePeakOfAPassIsOneLayersChunk) {
  constexpr int kLayers = 12;
  constexpr int64_t kTokens = 4096, kRaw = kTokens * 4 * 2 * (4 + 4);
  RigConfig config;
  config.layers.assign(kLayers, plain_layer());
  config.composition.encode = encoded_as("coarse", 16);
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  rig.begin(id, kTokens, ReadPolicy::raw_chunk);
  int64_t peak = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    rig.append(layer);
    peak = std::max(peak, rig.cache->bytes().committed);
  }
  rig.cache->end_chunk(ChunkEnd::prompt);
  const kvlab::Bytes bytes = rig.cache->bytes();
  // Exact rows and the chunk of one layer, and one granule per list and pool.
  EXPECT_LE(peak, bytes.cache_bytes() + 2 * kRaw + 4 * kLayers * kGranule);
  EXPECT_LT(peak, kLayers * kRaw);
  EXPECT_LE(bytes.committed, bytes.cache_bytes() + 4 * kLayers * kGranule);
}

TEST(Accounts, APassThatDoesNotFitChangesNothingAndASmallerOneGoesOn) {
  Rig rig({.layers = {plain_layer()}, .where = {.max_bytes = 4 * kGranule}});
  const SeqId id = rig.cache->add_sequence();
  rig.store(id, 1000);
  const kvlab::Bytes before = rig.cache->bytes();
  EXPECT_REFUSED("E_FULL", "max_bytes", rig.begin(id, 10000));
  EXPECT_FALSE(rig.cache->in_chunk());
  EXPECT_EQ(rig.cache->bytes(), before);
  rig.store(id, 1000);
  EXPECT_EQ(rig.cache->tokens_seen(id), 2000);
}

TEST(Accounts, ScratchIsNoPartOfTheCache) {
  Rig rig({.layers = {plain_layer()}});
  const SeqId id = rig.cache->add_sequence();
  rig.store(id, 100);
  const kvlab::Bytes bytes = rig.cache->bytes();
  EXPECT_GT(bytes.scratch, 0);
  EXPECT_GE(bytes.scratch_peak, bytes.scratch);
  EXPECT_EQ(bytes.cache_bytes(), bytes.payload + bytes.metadata + bytes.state);
}

TEST(Plans, AreMadeOncePerPassForLayersThatAreAlike) {
  RigConfig config;
  config.layers.assign(6, plain_layer());
  Rig rig(std::move(config));
  const SeqId id = rig.cache->add_sequence();
  rig.pass(id, 10);
  EXPECT_EQ(rig.engine->plans_made, 1);
  rig.pass(id, 1);
  EXPECT_EQ(rig.engine->plans_made, 2);
}

}  // namespace
}  // namespace kvlab::test
