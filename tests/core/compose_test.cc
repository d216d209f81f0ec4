// The rules by which methods go together, each with the smallest methods that break it.
#include "core/compose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/artifact.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kHeads = 4, kDim = 8;

/// Two self layers with 4 kv heads of 8 and RoPE.
ModelShape plain_shape() {
  const Rope rope{.style = Rope::Style::half_split, .rotary_dim = 2, .inv_freq = {1.0}};
  const Layer layer{.num_heads = kHeads,
                    .num_kv_heads = kHeads,
                    .head_dim = kDim,
                    .value_dim = kDim,
                    .scale = 0.35,
                    .rope = rope};
  return {.architecture = "test",
          .fingerprint = "abc",
          .width = 32,
          .vocab_size = 10,
          .max_positions = 100,
          .layers = {layer, layer}};
}

struct TestProject : Project {
  explicit TestProject(std::function<Layout(int)> given) : layouts(std::move(given)) {}
  Layout layout(int layer) const override { return layouts(layer); }
  Needs needs(int, int64_t) const override { return Needs::hidden; }
  void rows(const Append&, NewRows&) const override {}
  std::function<Layout(int)> layouts;
};

struct TestSelect : Select {
  explicit TestSelect(Selection given) : chosen(std::move(given)) {}
  Selection selection(int) const override { return chosen; }
  Selection chosen;
};

/// One row per layer that all heads share; keys and values are maps of it.
Layout shared_row() {
  return {.streams = {{.name = "row", .units = 1, .width = 16, .pre_rope = true}},
          .key = {.map = Operand::Map::up, .stream = "row", .rotate = true},
          .values = {{.map = Operand::Map::up, .stream = "row"}}};
}

/// A registry that methods are added to in one line.
struct Methods {
  Registry registry{};

  Methods() {
    registry.add(Method{.name = "dense", .capabilities = [](const kvlab::Setup&) {
                          return Capabilities{.exact = true, .position_free = false};
                        }});
    const auto codec = [&](const char* name, const Encoded& encoded) {
      registry.add(Codec{
          .name = name,
          .schema = R"({"bits": {"type": "integer", "default": 4, "maximum": 8, "doc": "d"}})",
          .layout = [encoded](int, const Json&) { return encoded; }});
    };
    codec("rows", {.planes = {{.row_bytes = 8}}});
    codec("tiles", {.planes = {{.tile_bytes = 64}}, .tile_tokens = 32, .row_wise = false});
  }
  void add(const char* name, const Capabilities& capabilities, const Stages& stages = {}) {
    registry.add(Method{.name = name,
                        .schema = R"({"n": {"type": "integer", "default": 1, "doc": "d"}})",
                        .capabilities = [=](const kvlab::Setup&) { return capabilities; },
                        .stages = [=](const kvlab::Setup&) { return stages; }});
  }
  void project(const char* name, std::function<Layout(int)> layout,
               const Capabilities& capabilities = {}) {
    add(name, capabilities, {.project = std::make_shared<TestProject>(std::move(layout))});
  }
  void project(const char* name, const Layout& layout, const Capabilities& capabilities = {}) {
    project(name, [layout](int) { return layout; }, capabilities);
  }
  void select(const char* name, Selection selection, const Capabilities& capabilities = {}) {
    add(name, capabilities, {.select = std::make_shared<TestSelect>(std::move(selection))});
  }
  void encode(const char* name, Encode encode, const char* codec = "rows", const char* params = "",
              const Capabilities& capabilities = {}) {
    encode.stream = [=](int, const StreamSpec&) {
      return Encoding{.codec = codec, .params = params};
    };
    add(name, capabilities, {.encode = encode});
  }

  Composition check(const Json& methods, const ModelShape& shape = plain_shape()) const {
    return check_composition(parse_methods(methods, registry), shape, registry);
  }
  std::string refusal(const Json& methods, const ModelShape& shape = plain_shape()) const {
    return error_of([&] { check(methods, shape); });
  }
  std::string parse_error(const char* text) const {
    return error_of([&] { parse_methods(Json::parse(text), registry); });
  }
};

// --- what a config may say

TEST(ParseMethods, TakesANameAListOfNamesOrAnObject) {
  Methods m;
  m.add("a", {});
  const auto label_of = [&](const char* text) {
    return label(parse_methods(Json::parse(text), m.registry));
  };
  EXPECT_EQ(label_of(R"("a")"), "a");
  EXPECT_EQ(label_of(R"("dense+a")"), "dense+a");
  EXPECT_EQ(label_of(R"({"name": "a", "params": {"n": 3}, "artifact": "x"})"), "a");
  EXPECT_EQ(label_of(R"({"name": "compose", "params": {"stages": ["a+dense", {"name": "a"}]}})"),
            "a+dense+a");
}

TEST(ParseMethods, CompletesParameters) {
  Methods m;
  m.add("a", {});
  const auto specs = parse_methods(
      Json::parse(
          R"({"name": "compose", "params": {"stages": ["a", {"name": "a", "params": {"n": 3}, "artifact": "p"}]}})"),
      m.registry);
  EXPECT_EQ(
      canonical(describe(specs)),
      R"([{"artifact":"","name":"a","params":{"n":1}},{"artifact":"p","name":"a","params":{"n":3}}])");
}

TEST(ParseMethods, ADescriptionParsesToItself) {
  Methods m;
  m.add("a", {});
  const Json once = describe(parse_methods("a+dense", m.registry));
  const Json composed = {{"name", "compose"}, {"params", {{"stages", once}}}};
  EXPECT_EQ(describe(parse_methods(composed, m.registry)), once);
}

TEST(ParseMethods, NamesWhatItDoesNotKnow) {
  Methods m;
  m.add("a", {});
  EXPECT_EQ(m.parse_error(R"("dens")"),
            "E_UNKNOWN: there is no method `dens`; did you mean `dense`?");
  EXPECT_EQ(m.parse_error(R"({"name": "a", "parms": {}})"),
            "E_UNKNOWN: method: there is no key `parms`; did you mean `params`?");
  EXPECT_EQ(m.parse_error(R"({"name": "compose", "params": {"stage": []}})"),
            "E_UNKNOWN: compose: there is no key `stage`; did you mean `stages`?");
  EXPECT_EQ(m.parse_error(R"({"name": "a", "params": {"m": 1}})"),
            "E_UNKNOWN: a: there is no parameter `m`; known: n");
  EXPECT_EQ(m.parse_error(R"({"name": "a", "params": {"n": "x"}})"),
            "E_CONFIG: a: parameter `n` is \"x\" (string), allowed is integer");
}

TEST(ParseMethods, RefusesWhatIsNoMethod) {
  Methods m;
  EXPECT_EQ(m.parse_error("3"), "E_CONFIG: method 3: must be a name or an object with `name`");
  EXPECT_THAT(m.parse_error("[]"), StartsWith("E_CONFIG: method []: "));
  EXPECT_THAT(m.parse_error("{}"), EndsWith("`name` must be a string"));
  EXPECT_THAT(m.parse_error(R"({"name": 3})"), EndsWith("`name` must be a string"));
  EXPECT_THAT(m.parse_error(R"({"name": "dense", "artifact": 3})"),
              StartsWith("E_CONFIG: dense: `artifact` is 3"));
  EXPECT_THAT(m.parse_error(R"({"name": "dense", "params": []})"),
              StartsWith("E_CONFIG: dense: parameters are []"));
  for (const char* names : {R"("")", R"("+")", R"("dense+")", R"("+dense")", R"("dense++dense")"})
    EXPECT_THAT(m.parse_error(names), HasSubstr("a name is empty")) << names;
  EXPECT_THAT(m.parse_error(R"({"name": "compose"})"),
              EndsWith("`stages` must be a list of methods"));
  EXPECT_THAT(m.parse_error(R"({"name": "compose", "params": {"stages": []}})"),
              EndsWith("`stages` must be a list of methods"));
  EXPECT_THAT(m.parse_error(R"({"name": "compose", "params": 3})"),
              EndsWith("`params` must be an object"));
  EXPECT_THAT(
      m.parse_error(R"({"name": "compose", "artifact": "x", "params": {"stages": ["dense"]}})"),
      HasSubstr("belongs to one of the stages"));
}

// --- what a composition is

TEST(Composition, CollectsStagesAndSelectorsInOrder) {
  Methods m;
  m.project("slim", shared_row());
  m.encode("quant", {.recent = 4});
  m.select("first", {.sinks = 1});
  m.select("second", {.sinks = 2});
  const Composition c = m.check("second+quant+slim+first");
  EXPECT_NE(c.project, nullptr);
  EXPECT_EQ(c.encode->recent, 4);
  ASSERT_EQ(c.selects.size(), 2U);
  EXPECT_EQ(c.selects[0]->selection(0).sinks, 2);
  EXPECT_EQ(c.selects[1]->selection(0).sinks, 1);
}

TEST(Composition, OfDenseHasNoStagesAndTakesKeysAndValues) {
  Methods m;
  const Composition c = m.check("dense");
  EXPECT_EQ(c.project, nullptr);
  EXPECT_FALSE(c.encode.has_value());
  EXPECT_TRUE(c.selects.empty());
  EXPECT_TRUE(c.capabilities.exact);
  EXPECT_EQ(c.capabilities.needs, Needs::keys | Needs::values);
  EXPECT_TRUE(c.read_refusals.empty());
}

TEST(Composition, PromisesTheWeakerAndNeedsTheUnion) {
  Methods m;
  m.add("a", {.needs = Needs::queries,
              .truncatable = false,
              .exact = true,
              .position_free = true,
              .frees = {"key", "x"}});
  m.add("b", {.needs = Needs::hidden,
              .causal_write = false,
              .alters_weights = true,
              .exact = true,
              .deterministic = false,
              .chunk_separable = false,
              .position_free = true,
              .unrotated_keys = true,
              .frees = {"x"}});
  const Capabilities c = m.check("a+b").capabilities;
  EXPECT_EQ(c.needs, Needs::queries | Needs::hidden | Needs::keys_pre_rope | Needs::values);
  EXPECT_FALSE(c.causal_write || c.truncatable || c.deterministic || c.chunk_separable);
  EXPECT_TRUE(c.alters_weights && c.exact && c.position_free && c.unrotated_keys);
  EXPECT_THAT(c.frees, ElementsAre("key", "x"));
  EXPECT_FALSE(m.check("a+dense").capabilities.position_free);
}

TEST(Composition, LayersThatAProjectLeavesAloneTakeKeysAndValues) {
  Methods m;
  m.project("all", shared_row(), {.needs = Needs::hidden});
  m.project("half", [](int layer) { return layer == 0 ? shared_row() : Layout{}; },
            {.needs = Needs::hidden});
  EXPECT_EQ(m.check("all").capabilities.needs, Needs::hidden);
  EXPECT_EQ(m.check("half").capabilities.needs, Needs::hidden | Needs::keys | Needs::values);
}

TEST(Composition, PassesAMethodsOwnRefusal) {
  Methods m;
  m.registry.add(
      Method{.name = "mha", .capabilities = [](const kvlab::Setup& setup) -> Capabilities {
               fail("E_SHAPE", "mha: needs as many kv heads as heads, has ",
                    setup.shape->layers[0].num_kv_heads);
             }});
  EXPECT_EQ(m.refusal("mha"), "E_SHAPE: mha: needs as many kv heads as heads, has 4");
}

TEST(Composition, TellsStagesWhatTheyAreMadeFor) {
  Methods m;
  kvlab::Setup seen;
  Json params;
  m.registry.add(Method{.name = "spy",
                        .schema = R"({"n": {"type": "integer", "default": 7, "doc": "d"}})",
                        .stages = [&](const kvlab::Setup& setup) {
                          seen = setup;
                          params = *setup.params;
                          return Stages{};
                        }});
  const ModelShape shape = plain_shape();
  compose(parse_methods("spy", m.registry), shape, m.registry, nullptr, Dtype::bf16,
          {Device::Kind::cuda, 1});
  EXPECT_EQ(seen.shape, &shape);
  EXPECT_EQ(params["n"], 7);
  EXPECT_EQ(seen.run_dtype, Dtype::bf16);
  EXPECT_EQ(seen.device, (Device{Device::Kind::cuda, 1}));
  EXPECT_EQ(seen.artifact, nullptr);
}

TEST(Composition, RefusesAShapeThatDoesNotFitItself) {
  Methods m;
  ModelShape shape = plain_shape();
  shape.layers[1].num_kv_heads = 3;
  EXPECT_THAT(m.refusal("dense", shape), StartsWith("E_SHAPE: test: layer 1: "));
  EXPECT_THAT(error_of([&] { check_composition({}, plain_shape(), m.registry); }),
              StartsWith("E_CONFIG: method: there is none"));
}

// --- at most one of each

TEST(ComposeRules, OneProjectAndOneEncode) {
  Methods m;
  m.project("palu", shared_row());
  m.project("slim", shared_row());
  m.encode("int4", {});
  m.encode("int8", {});
  EXPECT_EQ(
      m.refusal("palu+slim"),
      "E_COMPOSE: palu and slim: both say which numbers are stored (Project), a composition can "
      "have one such method; leave one of them out");
  EXPECT_THAT(m.refusal("int8+palu+int4"),
              StartsWith("E_COMPOSE: int8 and int4: both say in which bits"));
  EXPECT_EQ(m.refusal("int4+palu"), "no error");
}

// --- who decides for how many heads

TEST(ComposeRules, AHeadIsNotDroppedFromARowThatHeadsShare) {
  Methods m;
  m.project("slim", shared_row());
  m.project("pairs", [](int) {
    Layout layout = shared_row();
    layout.streams[0].units = 2;
    return layout;
  });
  m.select("gate", {.granularity = Scope::head});
  m.select("soft_gate", {.granularity = Scope::head, .coarsens = true});
  m.select("quest", {.granularity = Scope::head, .drops = false});
  m.select("window", {});
  EXPECT_EQ(
      m.refusal("gate+slim"),
      "E_COMPOSE: gate and slim: layer 0: the first drops rows per head, but 4 heads share each "
      "row of stream `row`; use a selector that decides per layer or one that coarsens");
  EXPECT_THAT(m.refusal("pairs+gate"), HasSubstr("but 2 heads share each row"));
  for (const char* legal : {"soft_gate+slim", "quest+slim", "window+slim", "gate", "gate+window"})
    EXPECT_EQ(m.refusal(legal), "no error") << legal;
}

TEST(ComposeRules, ATapsRowIsSharedByTheHeadsThatReadIt) {
  ModelShape shape = plain_shape();
  shape.layers.insert(shape.layers.begin(), {.kind = Layer::Kind::tap});
  Methods m;
  m.project("fish", [](int layer) {
    if (layer == 0) return Layout{.streams = {{.name = "row", .width = 16}}};
    return Layout{.rows_of = 0, .rebuilds = true};
  });
  m.select("gate", {.granularity = Scope::head});
  EXPECT_THAT(m.refusal("fish+gate", shape),
              HasSubstr("layer 0: the first drops rows per head, but 4 heads share"));
  EXPECT_EQ(m.refusal("fish", shape), "no error");
}

TEST(ComposeRules, ListsExistPerHeadOrPerLayer) {
  Methods m;
  m.select("pairs", {.granularity = Scope::group});
  EXPECT_THAT(m.refusal("pairs"), StartsWith("E_COMPOSE: pairs and the model: layer 0: lists of "
                                             "kept rows exist per head or per layer"));
}

TEST(ComposeRules, CrossLayersAreNotAskedWhatToKeep) {
  ModelShape shape = plain_shape();
  for (Layer& layer : shape.layers) layer.kind = Layer::Kind::cross;
  Methods m;
  m.select("pairs", {.granularity = Scope::group});
  EXPECT_EQ(m.refusal("pairs", shape), "no error");
}

TEST(ComposeRules, ASelectionAgreesWithItself) {
  Methods m;
  m.select("a", {.sinks = -1});
  m.select("b", {.recent = -1});
  m.select("c", {.drops = false, .flags = true});
  m.select("d", {.reindexes = true});
  m.select("e", {.streams = {{.name = "gate", .width = 1, .dtype = Dtype::f64}}});
  EXPECT_EQ(m.refusal("a"),
            "E_SHAPE: a: layer 0: sinks is -1 and recent 1, both must be at least 0");
  EXPECT_THAT(m.refusal("b"), StartsWith("E_SHAPE: b: "));
  EXPECT_THAT(m.refusal("c"), EndsWith("it flags rows but drops none"));
  EXPECT_THAT(m.refusal("d"), EndsWith("it re-indexes, so it must flag the rows it drops"));
  EXPECT_THAT(m.refusal("e"), HasSubstr("stream `gate` has float64 rows, they must be float32"));
}

// --- re-indexing

struct Reindexing : testing::Test {
  Reindexing() {
    m.select("window", {.flags = true, .sinks = 4, .recent = 16, .reindexes = true},
             {.unrotated_keys = true});
  }
  Methods m{};
};

TEST_F(Reindexing, WorksOnTheDenseCacheAndOnAnythingRotatedWhenRead) {
  m.project("slim", shared_row());
  m.encode("tiles_of_32", {.first = 4, .recent = 32}, "tiles");
  m.select("quest", {.drops = false});
  for (const char* legal : {"window", "window+slim", "window+tiles_of_32", "window+quest"})
    EXPECT_EQ(m.refusal(legal), "no error") << legal;
}

TEST_F(Reindexing, NeedsKeysThatAreRotatedWhenRead) {
  m.project("rotated", [](int) {
    Layout layout = shared_row();
    layout.key.rotate = false;
    return layout;
  });
  EXPECT_THAT(m.refusal("window+rotated"),
              StartsWith("E_COMPOSE: window and rotated: layer 0: the first needs keys that are "
                         "stored before RoPE"));
  m.select("proud", {.flags = true, .reindexes = true});  // forgets to ask for unrotated keys
  EXPECT_THAT(
      m.refusal("proud"),
      StartsWith(
          "E_COMPOSE: proud and the model: layer 0: the first renumbers positions and needs keys"));
}

TEST_F(Reindexing, IsFreeWhereNothingRotates) {
  ModelShape shape = plain_shape();
  for (Layer& layer : shape.layers) layer.rope = {};
  shape.layers[0].distance_bias = 32;  // distances are counted where queries are seen from
  EXPECT_EQ(m.refusal("window", shape), "no error");
  shape.layers[1].alibi_slopes.assign(kHeads, 0.5F);
  EXPECT_THAT(
      m.refusal("window", shape),
      StartsWith("E_COMPOSE: window and the model: layer 1: positions are renumbered by rotating"));
}

TEST_F(Reindexing, ToleratesNoOtherSelectorThatDrops) {
  m.select("h2o", {});
  EXPECT_THAT(
      m.refusal("h2o+window"),
      StartsWith("E_COMPOSE: window and h2o: layer 0: the first renumbers the rows it keeps"));
}

TEST_F(Reindexing, KeepsNoMoreFirstRowsThanSinks) {
  m.encode("quant", {.first = 5});
  EXPECT_THAT(m.refusal("window+quant"),
              StartsWith("E_COMPOSE: window and quant: layer 0: the first renumbers 4 sinks, the "
                         "second keeps 5 first rows"));
}

// --- rows whose final form is wanted at once

TEST(ComposeRules, RowsOthersAreComputedFromAreEncodedAtAppend) {
  Methods m;
  m.project("closed_loop", [](int) {
    Layout layout = shared_row();
    layout.encode_at_append = true;
    return layout;
  });
  m.encode("at_once", {});
  m.encode("lazy", {.recent = 1});
  m.encode("sinks", {.first = 1});
  m.encode("tiled", {}, "tiles");
  m.select("window", {.flags = true, .reindexes = true}, {.unrotated_keys = true});
  EXPECT_EQ(m.refusal("closed_loop+at_once"), "no error");
  EXPECT_THAT(m.refusal("closed_loop+lazy"),
              StartsWith("E_COMPOSE: closed_loop and lazy: layer 0: the first computes later "
                         "features from the bytes"));
  EXPECT_THAT(m.refusal("closed_loop+sinks"), StartsWith("E_COMPOSE: closed_loop and sinks: "));
  EXPECT_THAT(m.refusal("closed_loop+tiled"),
              HasSubstr("the second encodes stream `row` in tiles of 32 tokens"));
  EXPECT_THAT(m.refusal("closed_loop+window"),
              StartsWith("E_COMPOSE: closed_loop and window: layer 0: "));
}

TEST(ComposeRules, PredecessorsAreKeptInOneForm) {
  ModelShape shape = plain_shape();
  shape.layers.insert(shape.layers.begin(), {.kind = Layer::Kind::tap});
  Methods m;
  m.project("fish", [](int layer) {
    if (layer == 0) return Layout{.streams = {{.name = "row", .width = 16}}};
    return Layout{.rows_of = 0, .rebuilds = true, .halo = 1};
  });
  m.select("window", {.flags = true});
  m.select("quest", {.drops = false});
  m.encode("lazy", {.recent = 1});
  EXPECT_THAT(m.refusal("fish+window", shape),
              StartsWith("E_COMPOSE: fish and window: layer 0: the first rebuilds each row from "
                         "the one before it"));
  EXPECT_THAT(
      m.refusal("fish+lazy", shape),
      StartsWith(
          "E_COMPOSE: fish and lazy: layer 0: the first rebuilds rows from their predecessors"));
  EXPECT_EQ(m.refusal("fish+quest", shape), "no error");
}

// --- bits

TEST(ComposeRules, CodecsExistAndAcceptTheirParameters) {
  Methods m;
  m.encode("a", {}, "row");
  m.encode("b", {}, "rows", R"({"bits": 9})");
  m.encode("c", {}, "rows", "{");
  m.encode("d", {.recent_codec = "tiles"});
  m.encode("e", {.recent_codec = "nothing"});
  m.encode("f", {.first = -1});
  m.encode("g", {.recent = 8, .recent_codec = "rows"});
  m.registry.add(Codec{.name = "mute"});
  m.encode("h", {}, "mute");
  EXPECT_EQ(m.refusal("a"), "E_UNKNOWN: there is no codec `row`; did you mean `rows`?");
  EXPECT_EQ(m.refusal("b"), "E_CONFIG: b: codec rows: parameter `bits` is 9, allowed is at most 8");
  EXPECT_THAT(m.refusal("c"), StartsWith("E_FORMAT: c: codec rows: line 1"));
  EXPECT_EQ(m.refusal("d"),
            "E_CONFIG: d: recent rows come one by one, codec `tiles` takes them in tiles of 32");
  EXPECT_THAT(m.refusal("e"), StartsWith("E_UNKNOWN: there is no codec `nothing`"));
  EXPECT_THAT(m.refusal("f"), StartsWith("E_CONFIG: f: first is -1"));
  EXPECT_EQ(m.refusal("g"), "no error");
  EXPECT_THAT(m.refusal("h"), StartsWith("E_UNSUPPORTED: h: codec mute"));
}

TEST(ComposeRules, ACodecIsAskedWithTheWidthOfTheRows) {
  Methods m;
  std::vector<int> widths;
  m.registry.add(Codec{.name = "spy", .layout = [&](int width, const Json&) {
                         widths.push_back(width);
                         return Encoded{};
                       }});
  m.encode("quant", {}, "spy");
  m.project("slim", shared_row());
  m.check("quant+slim");
  EXPECT_THAT(widths, testing::Each(16));
}

TEST(ComposeRules, AStreamsOwnBitsAreChecked) {
  Methods m;
  m.project("p", [](int) {
    Layout layout = shared_row();
    layout.streams[0].encoding = Encoding{.codec = "raws"};
    return layout;
  });
  m.select("s", {.streams = {{.name = "gate",
                              .width = 4,
                              .attended = false,
                              .encoding = Encoding{.codec = "tile"}}}});
  EXPECT_THAT(m.refusal("p"), StartsWith("E_UNKNOWN: there is no codec `raws`"));
  EXPECT_THAT(m.refusal("s"), StartsWith("E_UNKNOWN: there is no codec `tile`"));
}

TEST(ComposeRules, AnEncoderWithNothingToEncodeIsRefused) {
  Methods m;
  m.project("fixed", [](int) {
    Layout layout = shared_row();
    layout.streams[0].encoding = Encoding{.codec = "rows"};
    return layout;
  });
  m.encode("quant", {});
  EXPECT_EQ(m.refusal("fixed"), "no error");
  EXPECT_THAT(m.refusal("fixed+quant"),
              StartsWith("E_COMPOSE: fixed and quant: the first says itself in which bits"));
}

// --- promises between methods

TEST(ComposeRules, KeysBeforeRopeMustBeThere) {
  Methods m;
  m.encode("kvquant", {}, "rows", "", {.unrotated_keys = true});
  m.project("rotated", [](int) {
    Layout layout = shared_row();
    layout.key.rotate = false;
    return layout;
  });
  m.project("slim", shared_row());
  EXPECT_EQ(m.refusal("kvquant+slim"), "no error");
  EXPECT_EQ(m.refusal("kvquant+rotated"),
            "E_COMPOSE: kvquant and rotated: layer 0: the first needs keys that are stored before "
            "RoPE, the second "
            "stores them rotated; set the first to rotated keys or leave one of them out");
  EXPECT_EQ(m.refusal("rotated"), "no error");
}

TEST(ComposeRules, NobodyNeedsWhatAnotherHasReplaced) {
  Methods m;
  m.project("palu", shared_row(), {.needs = Needs::hidden, .frees = {"key", "value"}});
  m.select("keydiff", {}, {.needs = Needs::keys});
  m.select("gate", {}, {.needs = Needs::hidden});
  EXPECT_EQ(m.refusal("keydiff+palu"),
            "E_COMPOSE: palu and keydiff: the first replaces the key projection, the second needs "
            "what it computes; "
            "leave one of them out");
  EXPECT_EQ(m.refusal("gate+palu"), "no error");
}

// --- layouts

TEST(ComposeRules, ALayoutAgreesWithItselfAndItsLayer) {
  const auto refusal = [](const std::function<void(Layout&)>& spoil) {
    Methods m;
    m.project("p", [&](int layer) {
      Layout layout = shared_row();
      layout.columns = {{.name = "norm"}};
      layout.key.row_scale = "norm";
      if (layer == 1) spoil(layout);
      return layout;
    });
    return m.refusal("p");
  };
  EXPECT_EQ(refusal([](Layout&) {}), "no error");
  EXPECT_EQ(refusal([](Layout& l) { l.streams.push_back(l.streams[0]); }),
            "E_SHAPE: p: layer 1: streams need distinct names, `row` is none");
  EXPECT_THAT(refusal([](Layout& l) { l.streams[0].width = 0; }),
              EndsWith("1 units of 0 features, both must be at least 1"));
  EXPECT_EQ(refusal([](Layout& l) { l.streams[0].dtype = Dtype::i8; }),
            "E_SHAPE: p: layer 1: stream `row` has int8 rows, they must be float32, bfloat16 or "
            "float16");
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
    EXPECT_EQ(refusal([&](Layout& l) { l.streams[0].dtype = dtype; }), "no error");
  EXPECT_THAT(refusal([](Layout& l) { l.streams[0].units = 3; }),
              EndsWith("has 3 units for 4 kv heads, which must be a multiple"));
  EXPECT_THAT(refusal([](Layout& l) { l.streams[0].follows_list = false; }),
              EndsWith("is attended, so it must follow the list"));
  EXPECT_THAT(refusal([](Layout& l) { l.streams[0].attended = false; }),
              EndsWith("its keys come from `row`, which is no attended stream"));
  EXPECT_THAT(refusal([](Layout& l) { l.key.stream = "rows"; }),
              EndsWith("its keys come from `rows`, which is no attended stream"));
  EXPECT_THAT(refusal([](Layout& l) { l.key.map = Operand::Map::own; }),
              EndsWith("its keys have 8 features, stream `row` has 16"));
  EXPECT_THAT(
      refusal([](Layout& l) { l.values[0].map = Operand::Map::slice; }),
      EndsWith("its values are slices of stream `row`, which has 16 features instead of 4 x 8"));
  EXPECT_THAT(refusal([](Layout& l) { l.values.clear(); }), EndsWith("it has no values"));
  EXPECT_THAT(refusal([](Layout& l) { l.columns.clear(); }),
              EndsWith("its keys are scaled by `norm`, which is no column"));
  EXPECT_THAT(refusal([](Layout& l) { l.halo = 1; }),
              EndsWith("a halo of 1 rows needs a layout that rebuilds"));
  EXPECT_THAT(refusal([](Layout& l) { l = {.rows_of = 1, .rebuilds = true}; }),
              HasSubstr("reads the rows of layer 1, it must be one below"));
  EXPECT_THAT(refusal([](Layout& l) { l.rows_of = 0; }), EndsWith("and this one must store none"));
  float up[kHeads * kDim * 16] = {};
  EXPECT_EQ(refusal([&](Layout& l) { l.key.up = dense_view(up, Dtype::f32, {kHeads, kDim, 16}); }),
            "no error");
  EXPECT_THAT(
      refusal([&](Layout& l) { l.key.up = dense_view(up, Dtype::f32, {kHeads, 16, kDim}); }),
      EndsWith("the map of its keys must be float32 [4, 8, 16]"));
  EXPECT_THAT(
      refusal([&](Layout& l) { l.values[0].bias = dense_view(up, Dtype::f32, {kDim, kHeads}); }),
      EndsWith("the bias of its values must be float32 [4, 8]"));
}

TEST(ComposeRules, SlicesMayHaveAMapOfTheirOwnWidth) {
  const float numbers[kHeads * kDim * 2 * kDim] = {};
  const auto refusal = [&](const TensorView& up, const TensorView& bias) {
    Methods m;
    Layout layout = shared_row();
    layout.streams[0].width = kHeads * kDim;
    layout.key = {
        .map = Operand::Map::slice, .stream = "row", .up = up, .bias = bias, .rotate = true};
    layout.values = {{.map = Operand::Map::slice, .stream = "row", .up = up, .bias = bias}};
    m.project("p", layout);
    return m.refusal("p");
  };
  const TensorView up = dense_view(numbers, Dtype::f32, {kHeads, kDim, kDim}),
                   bias = dense_view(numbers, Dtype::f32, {kHeads, kDim});
  for (const TensorView& a : {TensorView{}, up})
    for (const TensorView& b : {TensorView{}, bias}) EXPECT_EQ(refusal(a, b), "no error");
  EXPECT_EQ(refusal(dense_view(numbers, Dtype::f32, {kHeads, kDim, 2 * kDim}), bias),
            "E_SHAPE: p: layer 0: the map of its keys must be float32 [4, 8, 8]");
  EXPECT_THAT(refusal(dense_view(numbers, Dtype::bf16, {kHeads, kDim, kDim}), {}),
              EndsWith("the map of its keys must be float32 [4, 8, 8]"));
  EXPECT_EQ(refusal(up, dense_view(numbers, Dtype::f32, {kHeads * kDim})),
            "E_SHAPE: p: layer 0: the bias of its keys must be float32 [4, 8]");
  EXPECT_THAT(refusal({}, dense_view(numbers, Dtype::bf16, {kHeads, kDim})),
              EndsWith("the bias of its keys must be float32 [4, 8]"));
}

TEST(ComposeRules, ALayerMayReadTheRowsOfOneBelow) {
  Methods m;
  m.project("p", [](int layer) {
    Layout layout = shared_row();
    if (layer == 1) {
      layout.streams.clear();
      layout.rows_of = 0;
    }
    return layout;
  });
  EXPECT_EQ(m.refusal("p"), "no error");
}

// --- read policies

TEST(ReadPolicies, AreRefusedByNameWithWhatIsLeft) {
  Methods m;
  m.add("a", {.refuses = {ReadPolicy::raw_chunk}});
  m.select("window", {.flags = true});
  const Composition c = m.check("a+window");
  EXPECT_THAT(c.capabilities.refuses, ElementsAre(ReadPolicy::raw_chunk, ReadPolicy::stored));
  EXPECT_EQ(error_of([&] { check_read_policy(c, ReadPolicy::masked); }), "no error");
  EXPECT_EQ(error_of([&] { check_read_policy(c, ReadPolicy::stored); }),
            "E_READ_POLICY: window: cannot be read with policy `stored`: rows expire by age inside "
            "a pass, which "
            "only `masked` hides; use `masked`");
  EXPECT_THAT(error_of([&] { check_read_policy(c, ReadPolicy::raw_chunk); }),
              StartsWith("E_READ_POLICY: a: "));
}

TEST(ReadPolicies, RankingSelectorsAllowAllOfThem) {
  Methods m;
  m.select("h2o", {});
  EXPECT_TRUE(m.check("h2o").read_refusals.empty());
}

TEST(ReadPolicies, OneMustBeLeft) {
  Methods m;
  m.add("a", {.refuses = {ReadPolicy::raw_chunk, ReadPolicy::masked}});
  m.select("window", {.flags = true});
  EXPECT_EQ(m.refusal("window+a"),
            "E_COMPOSE: no read policy is left: a refuses `raw_chunk`, window refuses `stored`, a "
            "refuses `masked`; "
            "leave one of them out");
}

// --- artifacts

struct Artifacts : testing::Test {
  Artifacts() {
    m.registry.add(Method{
        .name = "palu",
        .capabilities = [](const kvlab::Setup&) { return Capabilities{.needs_artifact = true}; },
        .stages =
            [](const kvlab::Setup& setup) {
              const TensorView up = setup.artifact->tensor("up");
              return Stages{.project = std::make_shared<TestProject>([up](int) {
                              Layout layout = shared_row();
                              layout.key.up = up;
                              return layout;
                            })};
            }});
    Artifact({{"method", "palu"}, {"method_params", Json::object()}, {"model", "abc"}},
             {make_tensor("up", Dtype::f32, {kHeads, kDim, 16})})
        .save(file);
  }
  Json with(const std::string& path) const { return {{"name", "palu"}, {"artifact", path}}; }

  test::Scratch scratch{};
  std::filesystem::path file = scratch / "palu.safetensors";
  Methods m{};
};

TEST_F(Artifacts, AreLoadedAndKeptAlive) {
  const Composition c = compose(parse_methods(with(file), m.registry), plain_shape(), m.registry,
                                nullptr, Dtype::f32);
  ASSERT_EQ(c.artifacts.size(), 1U);
  EXPECT_EQ(c.project->layout(0).key.up.as<float>()[0], 0.0F);
}

TEST_F(Artifacts, ThatAreMissingSayHowToMakeThem) {
  EXPECT_EQ(m.refusal("palu"),
            "E_CONFIG: palu: needs an artifact, none is given; run `kvlab prepare` and name its "
            "file as `artifact`");
  EXPECT_THAT(m.refusal(with(scratch / "none")), StartsWith("E_FILE: cannot read `"));
}

TEST_F(Artifacts, MayBeLeftOutOfACheck) {
  const Composition c = check_composition(parse_methods("palu", m.registry), plain_shape(),
                                          m.registry, MissingArtifact::leave_out);
  EXPECT_EQ(c.project, nullptr);
  EXPECT_TRUE(c.capabilities.needs_artifact);
}

TEST_F(Artifacts, AreForOneMethodAndOneModel) {
  ModelShape shape = plain_shape();
  shape.fingerprint = "xyz";
  EXPECT_THAT(
      m.refusal(with(file), shape),
      StartsWith(
          "E_STALE_ARTIFACT: artifact of `palu`: was made for model abc, but this is model xyz"));
  EXPECT_THAT(m.refusal({{"name", "dense"}, {"artifact", file}}),
              StartsWith("E_STALE_ARTIFACT: artifact: was made by method `palu`, not by `dense`"));
}

TEST_F(Artifacts, OfAModelWithoutFingerprintAreCheckedLater) {
  ModelShape shape = plain_shape();
  shape.fingerprint = "";
  EXPECT_EQ(m.refusal(with(file), shape), "no error");
  EXPECT_THAT(error_of([&] {
                compose(parse_methods(with(file), m.registry), shape, m.registry, nullptr,
                        Dtype::f32);
              }),
              StartsWith("E_STALE_ARTIFACT"));
}

}  // namespace
}  // namespace kvlab
