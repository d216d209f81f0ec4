#include "eval/corpus/config.h"

#include <gmock/gmock.h>

#include "tests/support/refusal.h"

namespace kvlab::corpus {
namespace {

Json small() {
  return parse_json(R"({
    "schema": "kvlab-corpus/1", "seed": 1,
    "packages": [{"name": "click", "version": "1", "licence": "MIT", "sha256": "00"}],
    "text": {"suffixes": [".py"], "install": "pip", "least_bytes": 1, "most_bytes": 10,
             "longest_line": 80, "most_digits": 0.1, "most_non_ascii": 0.1, "least_letters": 0.1,
             "most_seen": 0.5, "most_seen_held_out": 0.1, "most_bytes_of_package": 100,
             "split": {"valid": 0.1, "test": 0.1}, "vocabulary": 300, "tokenizer_bytes": 100,
             "context": 64},
    "recall": {"lengths": [128, 256], "tokens": [10, 20], "kinds": {"needles": [1, 2]},
               "tasks": [{"builtin": "vt", "hops": 2, "shares": [0, 3]}]}})",
                    "small");
}

Json with(const char* pointer, const Json& value) {
  Json json = small();
  json[Json::json_pointer(pointer)] = value;
  return json;
}

TEST(CorpusConfig, HasSharesForEachLength) {
  const Config config = parse_config(small(), "small");
  EXPECT_EQ(config.vocabulary, 300);
  ASSERT_EQ(config.recall.kinds.size(), 1U);
  EXPECT_THAT(config.recall.kinds[0].second, testing::ElementsAre(1, 2));
  ASSERT_EQ(config.recall.tasks.size(), 1U);
  EXPECT_EQ(config.recall.tasks[0].name, "vt");
  EXPECT_EQ(config.recall.tasks[0].params, Json({{"hops", 2}}));
  EXPECT_THAT(config.recall.tasks[0].shares, testing::ElementsAre(0, 3));
}

TEST(CorpusConfig, RefusesWhatItDoesNotKnow) {
  const auto parse = [](const Json& json) { return parse_config(json, "small"); };
  EXPECT_REFUSED("E_UNKNOWN", "needles", parse(with("/recall/kinds/needels", {1, 1})));
  EXPECT_REFUSED("E_UNKNOWN", "vt", parse(with("/recall/tasks/0/builtin", "tv")));
  EXPECT_REFUSED("E_CONFIG", "one for each of `lengths`", parse(with("/recall/kinds/crowd", {1})));
  EXPECT_REFUSED("E_CONFIG", "from 0 to 1000000", parse(with("/recall/kinds/crowd", {1, -1})));
  EXPECT_REFUSED("E_CONFIG", "give one for each length", parse(with("/recall/tokens", {1})));
  EXPECT_REFUSED("E_CONFIG", "length twice", parse(with("/recall/lengths", {128, 128})));
  EXPECT_REFUSED("E_CONFIG", "no kind has a share", parse(with("/recall/kinds/needles", {0, 2})));
  EXPECT_REFUSED("E_CONFIG", "`samples` follows", parse(with("/recall/tasks/0/samples", 3)));
  EXPECT_REFUSED("E_CONFIG", "no text `licence`",
                 parse(with("/packages/0", {{"name", "a"}, {"version", "1"}, {"sha256", ""}})));
  EXPECT_REFUSED("E_CONFIG", "listed twice", parse(with("/packages/1", small()["packages"][0])));
  EXPECT_REFUSED("E_CONFIG", "schema", parse(with("/schema", "kvlab-corpus/2")));
}

}  // namespace
}  // namespace kvlab::corpus
