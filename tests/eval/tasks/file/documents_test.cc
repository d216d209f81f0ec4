// Documents, and what may stand in their fields.

#include "eval/tasks/file/documents.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab::tasks::file {
namespace {

using testing::ElementsAre;

const Document kDocument{.fields = Json::object(), .place = "docs.jsonl, line 7"};

TEST(Documents, AreObjectsLineByLine) {
  const auto all = documents_of("{\"a\": 1}\n\n  \r\n{\"a\": 2}", "docs.jsonl");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].fields.at("a"), 2);
  EXPECT_EQ(all[1].place, "docs.jsonl, line 4");
}

TEST(Documents, RefuseWhatIsNoObject) {
  EXPECT_REFUSED("E_FORMAT", "docs.jsonl, line 2: [1] is not an object",
                 documents_of("{}\n[1]\n", "docs.jsonl"));
  EXPECT_REFUSED("E_FORMAT", "docs.jsonl, line 1", documents_of("{\"a\": }\n", "docs.jsonl"));
  EXPECT_REFUSED("E_FORMAT", "there is no document", documents_of("\n \n", "docs.jsonl"));
}

TEST(Documents, AreThoseThatTheTaskWasWrittenFor) {
  const test::Scratch folder;
  std::ofstream(folder / "docs.jsonl") << "{}\n";
  const std::string sha = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
  const Documents read = read_documents(folder / "docs.jsonl", sha);
  EXPECT_EQ(read.all.size(), 1u);
  EXPECT_EQ(read.digest.at("sha256"), sha);
  EXPECT_EQ(read.digest.at("bytes"), 3);
  EXPECT_REFUSED("E_FORMAT", "its SHA-256 is " + sha + ", the task file wants abc",
                 read_documents(folder / "docs.jsonl", "abc"));
  EXPECT_REFUSED("E_FILE", "missing.jsonl", read_documents(folder / "missing.jsonl", ""));
}

TEST(Documents, TextsAreAListOrOne) {
  EXPECT_THAT(texts_of("a", kDocument, "choices"), ElementsAre("a"));
  EXPECT_THAT(texts_of({"a", 7, true}, kDocument, "choices"), ElementsAre("a", "7", "true"));
  EXPECT_REFUSED("E_FORMAT", "docs.jsonl, line 7: `choices` is {}",
                 texts_of(Json::object(), kDocument, "choices"));
  EXPECT_REFUSED("E_FORMAT", "null", texts_of({"a", nullptr}, kDocument, "choices"));
}

TEST(Documents, WithoutAnAnswerCannotBeScored) {
  EXPECT_THAT(references_of({"", "b"}, kDocument), ElementsAre("", "b"));
  EXPECT_REFUSED("E_NO_REFERENCE", "docs.jsonl, line 7", references_of(Json::array(), kDocument));
  EXPECT_REFUSED("E_NO_REFERENCE", "docs.jsonl, line 7", references_of("", kDocument));
}

TEST(Documents, GoldIsAnIndexOrAText) {
  const std::vector<std::string> choices{"a", "b"};
  EXPECT_EQ(gold_of(1, choices, kDocument), 1u);
  EXPECT_EQ(gold_of("b", choices, kDocument), 1u);
  for (const Json& wrong : {Json(2), Json(-1), Json("c"), Json("0"), Json(0.0), Json()})
    EXPECT_REFUSED("E_FORMAT", "its index 0..1", gold_of(wrong, choices, kDocument));
}

TEST(Documents, IntegersHaveARange) {
  EXPECT_THAT(integers_of({0, 9, -1}, kDocument, "labels", -1, 10), ElementsAre(0, 9, -1));
  EXPECT_REFUSED("E_POSITION", "10 at place 1 is outside 0..9",
                 integers_of({0, 10}, kDocument, "context_ids", 0, 10));
  EXPECT_REFUSED("E_POSITION", "outside",
                 integers_of({18446744073709551615u}, kDocument, "context_ids", 0, 10));
  EXPECT_REFUSED("E_FORMAT", "a list of integers",
                 integers_of({1.5}, kDocument, "context_ids", 0, 10));
  EXPECT_REFUSED("E_FORMAT", "a list of integers", integers_of(3, kDocument, "query_ids", 0, 10));
}

}  // namespace
}  // namespace kvlab::tasks::file
