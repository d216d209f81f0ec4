// Two run directories whose files are made up.

#include "eval/experiment/reproduce.h"

#include <gmock/gmock.h>

#include "core/files.h"
#include "eval/experiment/report.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class Reproduce : public testing::Test {
 protected:
  static Json line(const std::string& metric, double value, bool timing = false) {
    Json json{{"run", "0123"},
              {"title", "quant"},
              {"task", "mqar"},
              {"metric", metric},
              {"value", value}};
    if (timing) json["timing"] = true;
    return json;
  }
  std::filesystem::path run(const std::string& name, const std::vector<Json>& lines,
                            const std::string& commit = "abc") {
    std::filesystem::create_directories(folder_ / name);
    write_file(folder_ / name / "results.jsonl", json_lines(lines));
    write_file(folder_ / name / "record.json",
               Json{{"schema", "kvlab-record/1"}, {"build", {{"commit", commit}}}}.dump());
    return folder_ / name;
  }
  test::Scratch folder_;
};

TEST_F(Reproduce, EqualResultsAreEqualWhateverTheClockSays) {
  const Reproduction same =
      reproduction_of(run("a", {line("acc", 1), line("decode_tok_s", 100, true)}),
                      run("b", {line("acc", 1), line("decode_tok_s", 50, true)}));
  EXPECT_EQ(same.equal, 1u);
  EXPECT_THAT(same.differences, IsEmpty());
  EXPECT_THAT(same.circumstances, IsEmpty());
  EXPECT_EQ(to_json(same).at("reproduced"), true);
}

TEST_F(Reproduce, TheLastDigitCounts) {
  const double value = 0.1, next = std::nextafter(value, 1.0);
  const Reproduction close = reproduction_of(run("a", {line("nll", value), line("acc", 1)}),
                                             run("b", {line("nll", next), line("acc", 1)}, "def"));
  ASSERT_THAT(close.differences, SizeIs(1));
  EXPECT_EQ(close.differences[0].field, "value");
  EXPECT_EQ(close.differences[0].was, value);
  EXPECT_EQ(close.differences[0].is, next);
  EXPECT_THAT(close.circumstances, ElementsAre("build/commit: \"abc\", now \"def\""));
  EXPECT_THAT(reproduction_markdown(close), HasSubstr("1 numbers differ"));
}

TEST_F(Reproduce, ALineThatIsThereOnceDiffers) {
  const Reproduction other = reproduction_of(run("a", {line("acc", 1), line("cr", 2)}),
                                             run("b", {line("acc", 1), line("nll", 3)}));
  ASSERT_THAT(other.differences, SizeIs(2));
  EXPECT_TRUE(other.differences[0].is.is_null());
  EXPECT_TRUE(other.differences[1].was.is_null());
}

TEST_F(Reproduce, SaysWhatIsNoRecord) {
  const auto good = run("a", {line("acc", 1)});
  EXPECT_REFUSED("E_FILE", "results.jsonl", reproduction_of(good, folder_ / "none"));
  write_file(folder_ / "a" / "record.json", "{}");
  EXPECT_REFUSED("E_FORMAT", "no record of a run", reproduction_of(good, good));
  write_file(folder_ / "a" / "results.jsonl", "[]\n");
  EXPECT_REFUSED("E_FORMAT", "line 1", reproduction_of(good, good));
}

}  // namespace
}  // namespace kvlab
