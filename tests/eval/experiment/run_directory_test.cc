#include "eval/experiment/run_directory.h"

#include <gmock/gmock.h>

#include <fstream>

#include "core/files.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

TEST(RunDirectory, KeepsWhatIsWritten) {
  const test::Scratch scratch;
  const RunDirectory run(scratch / "a" / "b");
  EXPECT_FALSE(run.has_cell("1234"));
  EXPECT_FALSE(run.load_cell("1234"));
  run.save_cell("1234", {{"id", "1234"}});
  EXPECT_TRUE(run.has_cell("1234"));
  EXPECT_EQ(*run.load_cell("1234"), (Json{{"id", "1234"}}));
  run.write("results.jsonl", "x\n");
  EXPECT_EQ(read_file(run.path() / "results.jsonl", 10), "x\n");
}

TEST(RunDirectory, SweepsUpAfterAKilledWriterAndNothingElse) {
  const test::Scratch scratch;
  fs::create_directories(scratch / "cells");
  for (const char* name : {".results.jsonl.17-0.tmp", "cells/.ab.json.17-1.tmp", "mine.txt"}) {
    std::ofstream(scratch / name) << "half";
  }
  const RunDirectory run(scratch.path());
  EXPECT_FALSE(fs::exists(scratch / ".results.jsonl.17-0.tmp"));
  EXPECT_FALSE(fs::exists(scratch / "cells/.ab.json.17-1.tmp"));
  EXPECT_TRUE(fs::exists(scratch / "mine.txt"));
}

TEST(RunDirectory, ACellThatCannotBeReadIsNotThere) {
  const test::Scratch scratch;
  const RunDirectory run(scratch.path());
  std::ofstream(scratch / "cells/ab.json") << "{\"id\": ";
  EXPECT_FALSE(run.load_cell("ab"));
}

TEST(RunDirectory, HasOneWriter) {
  const test::Scratch scratch;
  {
    const RunDirectory first(scratch.path());
    EXPECT_REFUSED("E_BUSY", "another process", RunDirectory(scratch.path()));
  }
  EXPECT_NO_THROW(RunDirectory(scratch.path()));
}

TEST(RunDirectory, AFileInTheWayIsSaid) {
  const test::Scratch scratch;
  std::ofstream(scratch / "taken") << "";
  EXPECT_REFUSED("E_DISK", "taken", RunDirectory(scratch / "taken"));
}

}  // namespace
}  // namespace kvlab
