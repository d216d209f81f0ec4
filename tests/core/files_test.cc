#include "core/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <limits>
#include <thread>

#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::Scratch;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

std::vector<std::string> names_in(const Scratch& scratch) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(scratch.path()))
    names.push_back(entry.path().filename());
  return names;
}

/// Someone whom permissions bind, for as long as it lives.
struct Unprivileged {
  Unprivileged() : was(::geteuid()) {
    if (was == 0 && ::seteuid(65534) != 0) throw std::runtime_error("cannot step down");
  }
  ~Unprivileged() {
    if (::seteuid(was) != 0) std::abort();
  }
  uid_t was;
};

/// Writes beyond `bytes` of a file fail (EFBIG) for as long as it lives.
struct FileSizeLimit {
  explicit FileSizeLimit(rlim_t bytes) : handler(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &was);
    const rlimit now{bytes, was.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &was);
    std::signal(SIGXFSZ, handler);
  }
  rlimit was{};
  void (*handler)(int);
};

TEST(ReadFile, ReturnsEveryByte) {
  const Scratch scratch;
  for (const size_t size : {0, 1, 4095, 4096, 4097, 100'000}) {
    std::string contents(size, '\0');
    for (size_t i = 0; i < size; ++i) contents[i] = static_cast<char>(i * 31);
    write_file(scratch / "f", contents);
    EXPECT_EQ(read_file(scratch / "f", static_cast<int64_t>(size)), contents);
  }
}

TEST(ReadFile, ReadsAPipeToItsEnd) {
  const Scratch scratch;
  ASSERT_EQ(::mkfifo((scratch / "p").c_str(), 0600), 0);
  const std::string contents(300'000, 'x');
  std::thread writer([&] { std::ofstream(scratch / "p") << contents; });
  EXPECT_EQ(read_file(scratch / "p", kNoLimit), contents);
  writer.join();
}

TEST(ReadFile, RefusesMoreThanAllowedNamingBoth) {
  const Scratch scratch;
  write_file(scratch / "f", "12345");
  EXPECT_EQ(
      error_of([&] { read_file(scratch / "f", 4); }),
      "E_FILE: cannot read `" + (scratch / "f").string() + "`: 5 bytes, more than the 4 allowed");
  EXPECT_THAT(error_of([&] { read_file("/dev/zero", 100'000); }),
              HasSubstr("more than the 100000 allowed"));
}

TEST(ReadFile, SaysWhyItCannot) {
  const Scratch scratch;
  write_file(scratch / "f", "");
  const auto reason = [](const fs::path& path) { return error_of([&] { read_file(path, 10); }); };
  EXPECT_EQ(reason(scratch / "none"), "E_FILE: cannot read `" + (scratch / "none").string() +
                                          "`: no such file or folder; check the path");
  EXPECT_THAT(reason(scratch.path()), HasSubstr("it is a folder"));
  EXPECT_THAT(reason(scratch / "f" / "g"), HasSubstr("not a folder"));
  EXPECT_THAT(reason(scratch / std::string(300, 'x')), HasSubstr("the name is too long"));
  EXPECT_THAT(reason(""), StartsWith("E_FILE: "));
  EXPECT_THAT(reason(scratch / "\xFF"), HasSubstr("\\xff"));
}

TEST(Permissions, AreNamed) {
  const Scratch scratch;
  write_file(scratch / "secret", "x");
  fs::permissions(scratch / "secret", fs::perms::none);
  fs::permissions(scratch.path(),
                  fs::perms::owner_all | fs::perms::others_read | fs::perms::others_exec);
  if (::geteuid() != 0)
    fs::permissions(scratch.path(), fs::perms::owner_read | fs::perms::owner_exec);
  {
    const Unprivileged unprivileged;
    EXPECT_THAT(error_of([&] { read_file(scratch / "secret", 10); }),
                HasSubstr("permission denied"));
    EXPECT_THAT(error_of([&] { MappedFile(scratch / "secret"); }), HasSubstr("permission denied"));
    EXPECT_THAT(error_of([&] { write_file(scratch / "new", ""); }), HasSubstr("permission denied"));
    EXPECT_THAT(error_of([&] { append_file(scratch / "new", ""); }),
                HasSubstr("permission denied"));
  }
  fs::permissions(scratch.path(), fs::perms::owner_all);
}

TEST(MappedFile, ShowsTheBytes) {
  const Scratch scratch;
  write_file(scratch / "f", "abc");
  const MappedFile file(scratch / "f");
  EXPECT_EQ(std::string(file.bytes().begin(), file.bytes().end()), "abc");
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpan) {
  const Scratch scratch;
  write_file(scratch / "f", "");
  EXPECT_TRUE(MappedFile(scratch / "f").bytes().empty());
}

TEST(MappedFile, KeepsTheOldBytesWhenTheFileIsReplaced) {
  const Scratch scratch;
  write_file(scratch / "f", std::string(100'000, 'a'));
  const MappedFile file(scratch / "f");
  write_file(scratch / "f", "b");
  EXPECT_EQ(file.bytes()[99'999], 'a');
}

TEST(MappedFile, TakesRegularFilesOnly) {
  const Scratch scratch;
  ASSERT_EQ(::mkfifo((scratch / "p").c_str(), 0600), 0);
  EXPECT_THAT(error_of([&] { MappedFile(scratch / "p"); }), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of([&] { MappedFile(scratch.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { MappedFile("/dev/zero"); }), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of([&] { MappedFile(scratch / "none"); }), HasSubstr("no such file"));
}

TEST(AtomicFile, AppearsAtCommitAndNotBefore) {
  const Scratch scratch;
  AtomicFile file(scratch / "f");
  file.write("ab");
  file.write("cd");
  EXPECT_FALSE(fs::exists(scratch / "f"));
  file.commit();
  EXPECT_EQ(read_file(scratch / "f", 10), "abcd");
  EXPECT_THAT(names_in(scratch), testing::ElementsAre("f"));
}

TEST(AtomicFile, LeavesTheOldFileAndNoLitterWhenAbandoned) {
  const Scratch scratch;
  write_file(scratch / "f", "old");
  {
    AtomicFile(scratch / "f").write("new");
  }
  EXPECT_EQ(read_file(scratch / "f", 10), "old");
  EXPECT_THAT(names_in(scratch), testing::ElementsAre("f"));
}

TEST(AtomicFile, LeavesTheOldFileAndNoLitterWhenTheDiskRefuses) {
  const Scratch scratch;
  write_file(scratch / "f", "old");
  {
    const FileSizeLimit limit(1000);
    EXPECT_THAT(error_of([&] { write_file(scratch / "f", std::string(2000, 'x')); }),
                HasSubstr("would exceed the size the system allows"));
  }
  EXPECT_EQ(read_file(scratch / "f", 10), "old");
  EXPECT_THAT(names_in(scratch), testing::ElementsAre("f"));
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotMix) {
  const Scratch scratch;
  AtomicFile a(scratch / "f"), b(scratch / "f");
  a.write("aa");
  b.write("b");
  a.commit();
  b.commit();
  EXPECT_EQ(read_file(scratch / "f", 10), "b");
}

TEST(AtomicFile, AcceptsEveryNameTheSystemDoes) {
  const Scratch scratch;
  const std::string longest(255, 'x');
  write_file(scratch / longest, "1");
  EXPECT_EQ(read_file(scratch / longest, 10), "1");
}

TEST(AtomicFile, NeverReplacesAFolderOrADevice) {
  const Scratch scratch;
  ASSERT_EQ(::mkfifo((scratch / "p").c_str(), 0600), 0);
  EXPECT_THAT(error_of([&] { write_file(scratch.path(), ""); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { write_file(scratch / "p", ""); }), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of([&] { write_file("/dev/null", ""); }), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of([&] { write_file(scratch / "no" / "f", ""); }),
              StartsWith("E_FILE: cannot write `"));
}

TEST(AppendFile, AddsAtTheEnd) {
  const Scratch scratch;
  append_file(scratch / "f", "a\n");
  append_file(scratch / "f", "b\n");
  EXPECT_EQ(read_file(scratch / "f", 10), "a\nb\n");
}

TEST(AppendFile, SaysThatTheDiskIsFull) {
  EXPECT_EQ(error_of([] { append_file("/dev/full", "x"); }),
            "E_FILE: cannot write `/dev/full`: the disk is full; free space or choose a folder on "
            "another disk");
}

}  // namespace
}  // namespace kvlab
