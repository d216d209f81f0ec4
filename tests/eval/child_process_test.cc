#include "eval/child_process.h"

#include <gmock/gmock.h>
#include <poll.h>

#include <array>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(ChildProcess, AnswersLineByLine) {
  ChildProcess cat("cat", "/bin/cat", {});
  cat.write_line("one");
  cat.write_line("");
  EXPECT_EQ(cat.read_line(), "one");
  EXPECT_EQ(cat.read_line(), "");
  cat.write_line("two");
  EXPECT_EQ(cat.read_line(), "two");
}

TEST(ChildProcess, PassesLinesLongerThanAnyBuffer) {
  ChildProcess child("sh", "/bin/sh", {"-c", "read -r line; echo \"$line\"; echo after"});
  const std::string line(1 << 19, 'x');
  child.write_line(line);
  EXPECT_EQ(child.read_line(), line);
  EXPECT_EQ(child.read_line(), "after");
}

TEST(ChildProcess, GivesWhatHasArrivedAndKeepsTheHalfLine) {
  ChildProcess child("sh", "/bin/sh",
                     {"-c", "printf 'one\\ntwo\\nthr'; read -r line; echo ee; echo four"});
  std::vector<std::string> lines;
  while (lines.size() < 2) {
    for (std::string& line : child.read_arrived()) lines.push_back(std::move(line));
  }
  EXPECT_THAT(lines, ElementsAre("one", "two"));
  child.write_line("");
  EXPECT_EQ(child.read_line(), "three");
  EXPECT_EQ(child.read_line(), "four");
  EXPECT_THAT(error_of([&] { child.read_arrived(); }), HasSubstr("ended with status 0"));
}

TEST(ChildProcess, CanBeWaitedForWithOthers) {
  ChildProcess quiet("cat", "/bin/cat", {}), loud("cat", "/bin/cat", {});
  loud.write_line("x");
  std::array<pollfd, 2> files{{{quiet.descriptor(), POLLIN, 0}, {loud.descriptor(), POLLIN, 0}}};
  ASSERT_EQ(::poll(files.data(), files.size(), 10000), 1);
  EXPECT_EQ(files[0].revents, 0);
  EXPECT_THAT(loud.read_arrived(), ElementsAre("x"));
}

TEST(ChildProcess, GetsItsArgumentsAsTheyAre) {
  ChildProcess echo("echo", "/bin/echo", {"$HOME", "a  b;c"});
  EXPECT_EQ(echo.read_line(), "$HOME a  b;c");
}

TEST(ChildProcess, ThatCannotBeStartedIsAnError) {
  EXPECT_THAT(error_of([] { ChildProcess("thing", "/nonexistent/thing", {}); }),
              AllOf(StartsWith("E_FILE: thing cannot be started"), HasSubstr("No such file")));
}

TEST(ChildProcess, ThatEndsSaysHowAndWhatItComplainedAbout) {
  ChildProcess failing("worker", "/bin/sh", {"-c", "echo first >&2; echo 'no disk' >&2; exit 3"});
  EXPECT_THAT(error_of([&] { failing.read_line(); }),
              AllOf(StartsWith("E_FILE: worker ended with status 3"), HasSubstr(": no disk"),
                    testing::Not(HasSubstr("first"))));
  ChildProcess killed("worker", "/bin/sh", {"-c", "kill -9 $$"});
  EXPECT_THAT(error_of([&] { killed.read_line(); }), HasSubstr("was ended by signal 9"));
}

TEST(ChildProcess, WritingToOneThatIsGoneRaisesNoSignal) {
  ChildProcess gone("worker", "/bin/true", {});
  EXPECT_THAT(error_of([&] {
                for (int i = 0; i < 1000; ++i) gone.write_line(std::string(1 << 16, 'x'));
              }),
              StartsWith("E_FILE: worker ended with status 0"));
}

}  // namespace
}  // namespace kvlab
