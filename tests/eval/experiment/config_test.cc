#include "eval/experiment/config.h"

#include <gmock/gmock.h>

#include <set>

#include "core/files.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

/// Methods with the parameters of the examples, so that nothing depends on which ones exist.
const Registry& registry() {
  static const Registry all = [] {
    Registry made;
    made.add(Method{.name = "dense", .summary = "as it is"});
    made.add(Method{.name = "bits",
                    .summary = "test",
                    .schema = R"({"bits": {"type": "integer", "default": 4, "choices": [8, 4, 2],
                                           "doc": "test"},
                                  "key": {"type": "object", "default": {}, "doc": "test", "fields": {
                                    "bits": {"type": ["integer", "null"], "default": null,
                                             "doc": "test"},
                                    "axis": {"type": ["string", "null"], "default": null,
                                             "doc": "test"}}}})"});
    return made;
  }();
  return all;
}

Json minimal() {
  return {{"schema", "kvlab-config/1"},
          {"model", {{"builtin", "recall2"}}},
          {"tasks", {{{"builtin", "mqar"}}}}};
}

Json with(std::initializer_list<std::pair<const char*, Json>> changes) {
  Json config = minimal();
  for (const auto& [path, value] : changes)
    override_value(config, std::string(path) + "=" + value.dump());
  return config;
}

Experiment parse(const Json& config) {
  return parse_experiment(config, {}, registry(), catalogue());
}

std::vector<std::string> titles(const Experiment& experiment) {
  std::vector<std::string> all;
  for (const Cell& cell : experiment.cells) {
    all.push_back(label(cell.method) + " " + cell.task.name + " " + std::to_string(cell.seed));
  }
  return all;
}

TEST(Config, DenseIsRunFirstEvenWhenNobodyAsks) {
  EXPECT_THAT(titles(parse(minimal())), ElementsAre("dense mqar 0"));
  EXPECT_THAT(titles(parse(with({{"methods", {"bits", "dense"}}}))),
              ElementsAre("dense mqar 0", "bits mqar 0"));
}

TEST(Config, MethodsAreOutermostThenTasksMatrixAndSeeds) {
  Json config = with({{"methods", {"bits"}}, {"repeat", {{"seeds", {1, 2}}}}});
  config["tasks"].push_back({{"builtin", "copy"}});
  const Experiment experiment = parse(config);
  EXPECT_THAT(titles(experiment),
              ElementsAre("dense mqar 1", "dense mqar 2", "dense copy 1", "dense copy 2",
                          "bits mqar 1", "bits mqar 2", "bits copy 1", "bits copy 2"));
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(experiment.cells[i].reference, i % 4);
}

TEST(Config, SweepsMultiplyMethodsTasksAndModels) {
  const Experiment experiment =
      parse(with({{"methods", {{{"name", "bits"}, {"params", {{"bits", {{"sweep", {8, 2}}}}}}}}},
                  {"tasks.0.pairs", {{"range", {{"from", 2}, {"to", 4}, {"step", 1}}}}},
                  {"model.dtype", {{"sweep", {"float32", "bfloat16"}}}}}));
  EXPECT_THAT(experiment.cells, SizeIs(3 * 3 * 2));
}

TEST(Config, ATitleNamesWhatVariesAndWhatIsNoDefault) {
  const auto title_of = [](const Json& params) {
    std::vector<std::string> all;
    const Json method{{"name", "bits"}, {"params", params}};
    for (const Cell& cell : parse(with({{"methods", Json::array({method})}})).cells)
      all.push_back(cell.title);
    return all;
  };
  EXPECT_THAT(title_of({{"bits", 4}}), ElementsAre("dense", "bits"));
  EXPECT_THAT(title_of({{"bits", 2}}), ElementsAre("dense", "bits(bits=2)"));
  EXPECT_THAT(title_of({{"bits", {{"sweep", {4, 2}}}}}),
              ElementsAre("dense", "bits(bits=4)", "bits(bits=2)"));
  EXPECT_THAT(title_of({{"key", {{"axis", "channel"}}}}),
              ElementsAre("dense", "bits(key.axis=channel)"));
}

TEST(Config, AMethodListedTwiceIsRunOnce) {
  EXPECT_THAT(
      parse(with({{"methods", {"bits", {{"name", "bits"}, {"params", {{"bits", 4}}}}}}})).cells,
      SizeIs(2));
}

TEST(Config, ATaskListedTwiceIsAMistake) {
  Json config = minimal();
  config["tasks"].push_back({{"builtin", "mqar"}, {"pairs", 8}});  // the default
  EXPECT_REFUSED("E_CONFIG", "listed twice", parse(config));
}

TEST(Config, MatrixIsAProduct) {
  const Experiment experiment = parse(
      with({{"matrix",
             {{"prefill_chunk", {0, 512}}, {"read_policy", {"raw_chunk", "stored", "masked"}}}}}));
  ASSERT_THAT(experiment.cells, SizeIs(6));
  EXPECT_EQ(experiment.cells[0].matrix.prefill_chunk, 0);
  EXPECT_EQ(experiment.cells[5].matrix.prefill_chunk, 512);
  EXPECT_EQ(experiment.cells[5].matrix.read_policy, ReadPolicy::masked);
  EXPECT_EQ(parse(minimal()).cells[0].matrix.prefill_chunk, std::nullopt);
}

TEST(Config, ExcludeLeavesOutButKeepsDense) {
  const Json config =
      with({{"methods", {{{"name", "bits"}, {"params", {{"bits", {{"sweep", {8, 2}}}}}}}}},
            {"matrix", {{"prefill_chunk", {0, 512}}}},
            {"exclude", {{{"method", "bits"}, {"bits", 2}, {"prefill_chunk", 0}}}}});
  EXPECT_THAT(parse(config).cells, SizeIs(2 + 4 - 1));
  EXPECT_THAT(parse(with({{"exclude", {{{"method", "dense"}}}}})).cells, SizeIs(1));
}

TEST(Config, IdsNameWhatIsRun) {
  std::set<std::string> ids;
  const Experiment experiment =
      parse(with({{"methods", {"bits"}}, {"repeat", {{"seeds", {1, 2}}}}}));
  for (const Cell& cell : experiment.cells) {
    EXPECT_THAT(cell.id, testing::MatchesRegex("[0-9a-f]{16}"));
    ids.insert(cell.id);
  }
  EXPECT_THAT(ids, SizeIs(4));
}

TEST(Config, IdsDependOnNothingElse) {
  const Experiment a = parse(with({{"methods", {"bits"}}}));
  Json other = with({{"name", "other"},
                     {"output", "elsewhere"},
                     {"limits", {{"max_seconds", 3}}},
                     {"methods", {{{"name", "bits"}, {"params", {{"bits", 2}}}}, "bits"}}});
  other["tasks"][0]["pairs"] = 8;  // the default, spelt out
  const Experiment b = parse(other);
  EXPECT_EQ(a.cells[0].id, b.cells[0].id);
  EXPECT_EQ(a.cells[1].id, b.cells[2].id);
}

// SHA-256 of {"matrix":{"prefill_chunk":null,...},"method":[...],"model":...} is fixed for ever: a
// change here makes finished cells of every user run again.
TEST(Config, TheIdOfAnExampleIsStable) {
  EXPECT_EQ(canonical(describe(parse(minimal()).cells[0])),
            R"({"matrix":{"prefill_chunk":null,"query_aware":false,"read_policy":"raw_chunk"},)"
            R"("method":[{"artifact":"","name":"dense","params":{}}],)"
            R"("model":{"builtin":"recall2"},"schema":"kvlab-config/1","seed":0,)"
            R"("task":{"builtin":"mqar","context":0,"length":0,"pairs":8,"power_a":1.0,)"
            R"("protocol":"decode","query_chunk":0,"samples":32}})");
}

TEST(Config, AnArtifactCountsFromTheFolderAndIsPartOfTheIdByWhatIsInIt) {
  const test::Scratch folder;
  const Json config = with({{"methods", {{{"name", "bits"}, {"artifact", "made/bits"}}}}});
  const auto parsed = [&] {
    return parse_experiment(config, folder.path(), registry(), catalogue()).cells.at(1);
  };
  EXPECT_REFUSED("E_FILE", "made/bits", parsed());
  std::filesystem::create_directory(folder / "made");
  EXPECT_REFUSED("E_FILE", "is no file",
                 parse_experiment(with({{"methods", {{{"name", "bits"}, {"artifact", "made"}}}}}),
                                  folder.path(), registry(), catalogue()));
  write_file(folder / "made" / "bits", "one");
  const Cell one = parsed();
  const Json stage = describe(one).at("method").at(0), used = artifacts_of(one).at(0);
  EXPECT_EQ(stage.at("artifact"), "made/bits");
  EXPECT_EQ(stage.at("artifact_sha256"), sha256_hex("one"));
  EXPECT_EQ(used, Json({{"path", "made/bits"}, {"sha256", sha256_hex("one")}, {"bytes", 3}}));
  EXPECT_EQ(parsed().id, one.id);
  write_file(folder / "made" / "bits", "two");
  EXPECT_NE(parsed().id, one.id);
  EXPECT_EQ(artifacts_of(parse(minimal()).cells[0]), Json::array());
}

TEST(Config, UnknownKeysAreRefusedWithTheNearest) {
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `methods`", parse(with({{"method", {"bits"}}})));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `pairs`", parse(with({{"tasks.0.pair", 4}})));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `prefill_chunk`",
                 parse(with({{"matrix", {{"prefill_chunks", {1}}}}})));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `bits`", parse(with({{"methods", {"bit"}}})));
  EXPECT_REFUSED("E_UNKNOWN", "did you mean `bits`",
                 parse(with({{"methods", {{{"name", "bits"}, {"params", {{"bitz", 4}}}}}}})));
  EXPECT_REFUSED("E_UNKNOWN", "no cell has `bitz`", parse(with({{"exclude", {{{"bitz", 4}}}}})));
  EXPECT_REFUSED("E_UNKNOWN", "mqar", parse(with({{"tasks.0.builtin", "mqra"}})));
}

TEST(Config, WrongValuesAreRefused) {
  EXPECT_REFUSED("E_CONFIG", "schema", parse(with({{"schema", "kvlab-config/2"}})));
  EXPECT_REFUSED("E_CONFIG", "tasks", parse(with({{"tasks", Json::array()}})));
  EXPECT_REFUSED("E_CONFIG", "names no task", parse(with({{"tasks", {{{"pairs", 8}}}}})));
  EXPECT_REFUSED("E_CONFIG", "prefill_chunk", parse(with({{"matrix", {{"prefill_chunk", {-1}}}}})));
  EXPECT_REFUSED("E_CONFIG", "read_policy", parse(with({{"matrix", {{"read_policy", {"raw"}}}}})));
  EXPECT_REFUSED("E_CONFIG", "empty",
                 parse(with({{"matrix", {{"prefill_chunk", Json::array()}}}})));
  EXPECT_REFUSED("E_CONFIG", "seed", parse(with({{"seed", -1}})));
  EXPECT_REFUSED("E_CONFIG", "samples", parse(with({{"tasks.0.samples", 0}})));
  EXPECT_REFUSED("E_CONFIG", "config", parse(Json::array()));
  EXPECT_REFUSED("E_CONFIG", "`builtin` or `ppl`",
                 parse(with({{"tasks", {{{"builtin", "mqar"}, {"ppl", "decode"}}}}})));
}

TEST(Override, ReplacesAddsAndReachesIntoLists) {
  Json config = minimal();
  override_value(config, "seed=9");
  override_value(config, "tasks.0.pairs=4");
  override_value(config, "model.dtype=bfloat16");
  override_value(config, "limits.max_seconds=1.5");
  override_value(config, "methods=[\"bits\"]");
  EXPECT_EQ(config["seed"], 9);
  EXPECT_EQ(config["tasks"][0]["pairs"], 4);
  EXPECT_EQ(config["model"]["dtype"], "bfloat16");
  EXPECT_EQ(config["limits"]["max_seconds"], 1.5);
  EXPECT_EQ(config["methods"][0], "bits");
}

TEST(Override, SaysWhatIsWrong) {
  Json config = minimal();
  EXPECT_REFUSED("E_CONFIG", "write a.b=c", override_value(config, "seed"));
  EXPECT_REFUSED("E_CONFIG", "write a.b=c", override_value(config, "=3"));
  EXPECT_REFUSED("E_CONFIG", "`7` is no place in a list of 1",
                 override_value(config, "tasks.7.pairs=1"));
  EXPECT_REFUSED("E_CONFIG", "`pairs` is no place", override_value(config, "tasks.pairs=1"));
  EXPECT_REFUSED("E_CONFIG", "`x` is no place", override_value(config, "schema.x=1"));
}

}  // namespace
}  // namespace kvlab
