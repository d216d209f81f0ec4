// Rows that leave a cache and come back: what fits, what is refused, and that a refusal changes
// nothing.

#include <gtest/gtest.h>

#include "core/files.h"
#include "core/safetensors.h"
#include "tests/core/cache/world.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

/// Tiles of 8 and 4, rows that stay exact, lists per head that lose rows.
WorldConfig tiled() {
  WorldConfig config;
  config.layers = {small_layer(4, 2), small_layer(2, 2, 6)};
  config.key_codec = "mixed8", config.value_codec = "column4";
  config.first = 2, config.recent = 3;
  config.where.page_tokens = 16;
  return config;
}

WorldConfig gated() {
  WorldConfig config = tiled();
  config.selectors.push_back({.granularity = Scope::head, .sinks = 1, .recent = 5});
  return config;
}

World::PassPlan tokens(int64_t n) { return {{0}, {n}, ReadPolicy::masked, ChunkEnd::chunk}; }

/// A world that has seen 37 tokens, saved.
struct Saved {
  explicit Saved(const WorldConfig& config) : world(config, 5) {
    world.add();
    world.pass(tokens(30));
    world.pass(tokens(7));
    world.cache().save(world.live()[0].id, file);
  }
  Scratch scratch{};
  std::filesystem::path file = scratch / "rows";
  World world;
};

Json manifest_of(const std::filesystem::path& file) {
  return parse_json(SafetensorsFile(file).header().metadata.at("kvlab_rows"), "manifest");
}

/// The file with another manifest, and its tensors as `change` leaves them.
void rewrite(const std::filesystem::path& file, const Json& manifest,
             const std::function<void(std::vector<Tensor>&)>& change = {}) {
  const SafetensorsFile old(file);
  std::vector<Tensor> tensors;
  for (const SafetensorsEntry& entry : old.header().entries)
    tensors.push_back({.name = entry.name, .view = old.tensor(entry.name)});
  if (change) change(tensors);
  write_safetensors(file, tensors, {{"kvlab_rows", canonical(manifest)}});
}

class RowsFile : public testing::TestWithParam<const char*> {
 protected:
  Saved saved{std::string_view(GetParam()) == "gated" ? gated() : tiled()};
  void expect_refused(const Json& manifest, std::string_view code, std::string_view part) {
    rewrite(saved.file, manifest);
    const kvlab::Bytes before = saved.world.cache().bytes();
    const std::string said = error_of([&] { saved.world.cache().load(saved.file); });
    EXPECT_THAT(said, testing::AllOf(testing::StartsWith(code), testing::HasSubstr(part)));
    EXPECT_EQ(saved.world.cache().bytes(), before);
  }
};

TEST_P(RowsFile, FitsACacheOfOtherPages) {
  WorldConfig config = saved.world.config();
  const auto more = [&](World& world) {
    world.random().seed(7);
    std::vector<float> out;
    for (int i = 0; i < 12; ++i) {
      const auto step = world.pass({{0}, {1}, ReadPolicy::masked, ChunkEnd::step});
      out.insert(out.end(), step.begin(), step.end());
    }
    return out;
  };
  for (const int page_tokens : {1, 8, 64})
    for (const auto addressing : {Where::Addressing::paged, Where::Addressing::contiguous}) {
      config.where.page_tokens = page_tokens;
      config.where.addressing = addressing;
      World other(config, 6);
      other.add();
      other.live()[0] = saved.world.live()[0];
      other.live()[0].id = other.cache().load(saved.file);
      other.check_state();
      EXPECT_FALSE(more(other).empty());  // each answer is compared with the oracle
      other.check_state();
    }
}

TEST_P(RowsFile, OfAnotherModelOrMethodIsRefusedWithBothValues) {
  const Json manifest = manifest_of(saved.file);
  const auto with = [&](const Json::json_pointer& at, const Json& value) {
    Json changed = manifest;
    changed[at] = value;
    return changed;
  };
  using Pointer = Json::json_pointer;
  expect_refused(with(Pointer("/identity/model"), "mars"), "E_IDENTITY", "\"mars\"");
  expect_refused(with(Pointer("/identity/model"), "mars"), "E_IDENTITY", "\"world\"");
  expect_refused(with(Pointer("/identity/run_dtype"), "bfloat16"), "E_IDENTITY", "run_dtype");
  expect_refused(with(Pointer("/identity/methods/0/params"), {{"bits", 4}}), "E_IDENTITY", "bits");
  expect_refused(with(Pointer("/layout/0/tile"), 4), "E_IDENTITY", "layout[0].tile 4");
  expect_refused(with(Pointer("/layout/1/past/streams/0/codec"), "coarse"), "E_IDENTITY",
                 "\"coarse\"");
  expect_refused(with(Pointer("/version"), 2), "E_IDENTITY", "version");
  expect_refused(with(Pointer("/layout"), Json::array()), "E_IDENTITY", "layout");
}

TEST_P(RowsFile, WhoseNumbersDoNotAgreeIsRefused) {
  const Json manifest = manifest_of(saved.file);
  const auto refused = [&](const char* at, const Json& value, std::string_view part) {
    SCOPED_TRACE(std::string(at) + " = " + value.dump());
    Json changed = manifest;
    changed[Json::json_pointer(at)] = value;
    expect_refused(changed, "E_FORMAT", part);
  };
  refused("/format", "other", "`format`");
  refused("/format", 3, "`format`");
  refused("/positions", {0, 36}, "");
  if (!saved.world.drops()) {
    refused("/positions", {0, 38}, "cover");
    refused("/lists/0/4", manifest["lists"][0][4].get<int>() + 1, "encoded as well");
  }
  refused("/positions", {-1, 37}, "integer");
  refused("/positions", {5, 4}, "integer");
  refused("/positions", {0, 1e9}, "integer");
  refused("/positions", {0, 9223372036854775807}, "integer");
  refused("/positions", {0, 18446744073709551615U}, "integer");
  refused("/positions", "all", "`positions`");
  refused("/lists", Json::array(), "lists");
  refused("/lists/0", Json::array(), "five");
  refused("/lists/0/0", 1, "first rows");
  refused("/lists/0/0", -1, "integer");
  refused("/lists/0/1", 3, "tiles");
  refused("/lists/0/1", 1 << 30, "");
  refused("/lists/0/2", 1 << 30, "");
  refused("/lists/0/4", 1 << 30, "integer");
  refused("/lists/0/3", -1, "integer");
  refused("/sequence", 1, "`sequence`");
  refused("/sequence/rewritten", 37, "integer");
  refused("/sequence/flagged", -2, "integer");
  refused("/sequence/encoder_tokens", 0.5, "integer");
  refused("/sequence/removed", {{3, 2}}, "integer");
  refused("/sequence/removed", {{3, 5}, {4, 9}}, "integer");
  refused("/sequence/more", 1, "members");
  refused("/surprise", 1, "no meaning");
  Json changed = manifest;
  changed.erase("sequence");
  expect_refused(changed, "E_FORMAT", "import_rows");
}

TEST_P(RowsFile, WhoseTensorsDoNotFitIsRefused) {
  const Json manifest = manifest_of(saved.file);
  const auto refused = [&](const std::function<void(std::vector<Tensor>&)>& change) {
    saved.world.cache().save(saved.world.live()[0].id, saved.file);
    rewrite(saved.file, manifest, change);
    EXPECT_REFUSED("E_FORMAT", "tensor", saved.world.cache().load(saved.file));
  };
  refused([](auto& tensors) { tensors.pop_back(); });
  refused([](auto& tensors) { tensors[0].name = "x"; });
  refused([](auto& tensors) { tensors.push_back(make_tensor("x", Dtype::u8, {1})); });
  refused([](auto& tensors) {
    TensorView& view = tensors[0].view;
    view = view.rows({0, view.size(0) - 1});
  });
  refused([](auto& tensors) { tensors[0].view.dtype = Dtype::i8; });
  refused([](auto& tensors) {
    TensorView& view = tensors[0].view;
    view = dense_view(view.data, view.dtype, {1, view.size(0)});
  });
  refused([](auto& tensors) {
    tensors[0].view = dense_view(tensors[0].view.data, Dtype::u8, {1, 1, 1, 1});
  });
}

TEST_P(RowsFile, WhoseFileIsNoneIsRefused) {
  write_file(saved.file, "hello");
  EXPECT_REFUSED("E_FORMAT", "", saved.world.cache().load(saved.file));
  write_safetensors(saved.file, {}, {});
  EXPECT_REFUSED("E_FORMAT", "kvlab_rows", saved.world.cache().load(saved.file));
  write_safetensors(saved.file, {}, {{"kvlab_rows", "{"}});
  EXPECT_REFUSED("E_FORMAT", "manifest", saved.world.cache().load(saved.file));
  EXPECT_REFUSED("E_FILE", "", saved.world.cache().load(saved.scratch / "nothing"));
}

INSTANTIATE_TEST_SUITE_P(Worlds, RowsFile, testing::Values("tiled", "gated"));

TEST(RowsFile, WhosePositionsDoNotRiseIsRefused) {
  Saved saved(gated());
  for (const int32_t value : {-1, 0, 37, 1 << 30, -2147483647}) {
    saved.world.cache().save(saved.world.live()[0].id, saved.file);
    rewrite(saved.file, manifest_of(saved.file), [&](std::vector<Tensor>& tensors) {
      for (Tensor& tensor : tensors)
        if (tensor.name == "0/past/column/position") {
          Tensor copy = make_tensor(tensor.name, Dtype::i32, {tensor.view.size(0)});
          std::copy_n(tensor.view.as<int32_t>(), tensor.view.size(0), copy.view.as<int32_t>());
          copy.view.as<int32_t>()[1] = value;
          tensor = std::move(copy);
        }
    });
    EXPECT_REFUSED("E_FORMAT", "position", saved.world.cache().load(saved.file)) << value;
  }
}

TEST(RowsFile, ThatDoesNotFitTheBudgetChangesNothing) {
  Saved saved(tiled());
  WorldConfig config = tiled();
  config.where.page_tokens = 1024;
  config.where.max_bytes = 128 << 10;
  World small(config, 1);
  const kvlab::Bytes before = small.cache().bytes();
  EXPECT_REFUSED("E_FULL", "", small.cache().load(saved.file));
  EXPECT_EQ(small.cache().bytes(), before);
  EXPECT_NO_THROW(small.cache().add_sequence());
}

// ---- ranges ----

TEST(ExportedRows, AreWholeTilesOfLivingRows) {
  Saved saved(tiled());
  Cache& cache = saved.world.cache();
  const SeqId id = saved.world.live()[0].id;
  EXPECT_REFUSED("E_ALIGN", "encoded together", cache.export_rows(id, {2, 9}));
  EXPECT_NO_THROW(cache.export_rows(id, {2, 10}));  // `first` holds 2, then come tiles of 8
  EXPECT_REFUSED("E_POSITION", "no range", cache.export_rows(id, {2, 38}));
  EXPECT_REFUSED("E_POSITION", "no range", cache.export_rows(id, {3, 3}));
}

TEST(ImportedRows, GoOnWhereASequenceEnds) {
  Saved saved(tiled());
  Cache& cache = saved.world.cache();
  const SeqId id = saved.world.live()[0].id;
  const Rows head = cache.export_rows(id, {0, 10}), tail = cache.export_rows(id, {10, 37});
  const SeqId other = cache.add_sequence();
  EXPECT_REFUSED("E_POSITION", "ends at 0", cache.import_rows(other, tail, 10));
  EXPECT_REFUSED("E_POSITION", "depend on it", cache.import_rows(other, tail, 0));
  cache.import_rows(other, head, 0);
  EXPECT_EQ(cache.tokens_seen(other), 10);
  cache.import_rows(other, tail, 10);
  EXPECT_EQ(cache.positions(0, other, 0), cache.positions(0, id, 0));
  EXPECT_REFUSED("E_POSITION", "depend on it", cache.import_rows(other, head, 37));
  // What came in two pieces is the sequence: the oracle goes on with it.
  cache.drop(id);
  saved.world.live()[0].id = other;
  saved.world.live()[0].arrived = 37;
  saved.world.check_state();
  saved.world.pass(tokens(20));
  saved.world.check_state();
}

TEST(ImportedRows, CannotOvertakeRowsThatWait) {
  Saved saved(tiled());
  Cache& cache = saved.world.cache();
  const Rows tail = cache.export_rows(saved.world.live()[0].id, {10, 37});
  saved.world.add();
  saved.world.pass({{1}, {10}, ReadPolicy::masked, ChunkEnd::chunk});  // 2..9 are due at 12
  EXPECT_REFUSED("E_ALIGN", "holds 8 rows that are not encoded yet",
                 cache.import_rows(saved.world.live()[1].id, tail, 10));
  saved.world.check_state();
}

TEST(ImportedRows, AreNoWholeSequenceAndTheOtherWayRound) {
  Saved saved(tiled());
  Cache& cache = saved.world.cache();
  const Rows range = cache.export_rows(saved.world.live()[0].id, {0, 37});
  std::vector<Tensor> tensors;
  for (const auto& [name, view] : range.tensors) tensors.push_back({.name = name, .view = view});
  write_safetensors(saved.file, tensors, {{"kvlab_rows", range.manifest}});
  EXPECT_REFUSED("E_FORMAT", "import_rows takes them", cache.load(saved.file));
}

}  // namespace
}  // namespace kvlab::test
