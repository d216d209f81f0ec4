#include "core/plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/files.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::StartsWith;

std::filesystem::path object(const std::string& name) {
  return std::filesystem::path(KVLAB_TEST_PLUGINS) / (name + ".so");
}

std::string refusal(const std::filesystem::path& path) {
  Registry registry;
  return error_of([&] { load_plugin(path, registry); });
}

TEST(Plugin, RegistersItself) {
  Registry registry;
  load_plugin(object("test_plugin_good"), registry);
  EXPECT_EQ(registry.method("from_plugin").summary, "A method of a shared object.");
}

TEST(Plugin, ARelativePathIsTakenFromTheCurrentFolderOnly) {
  Registry registry;
  load_plugin(std::filesystem::relative(object("test_plugin_good")), registry);
  EXPECT_TRUE(registry.has_method("from_plugin"));
}

TEST(Plugin, IsRefusedTheSecondTime) {
  Registry registry;
  load_plugin(object("test_plugin_good"), registry);
  EXPECT_EQ(error_of([&] { load_plugin(object("test_plugin_good"), registry); }),
            "E_CONFIG: method `from_plugin` is already registered; give this one another name");
}

TEST(Plugin, AnotherAbiIsNamedBeforeAnyOfItsCodeRuns) {
  EXPECT_EQ(refusal(object("test_plugin_other_abi")),
            "E_PLUGIN: plugin `" + object("test_plugin_other_abi").string() +
                "` was built for kvlab-abi:core-0000000000000000/another, but this is " +
                kPluginAbi + "; build it again with this kvlab's headers");
  EXPECT_EQ(std::getenv("KVLAB_TEST_OTHER_ABI_RAN"), nullptr);
}

TEST(Plugin, WhatIsNoneSaysWhy) {
  EXPECT_THAT(refusal(object("test_plugin_no_symbol")), HasSubstr("has no symbol `kvlab_plugin`"));
  EXPECT_THAT(refusal(object("test_plugin_wrong_0")), HasSubstr("(magic number)"));
  EXPECT_THAT(refusal(object("test_plugin_wrong_1")), HasSubstr("(magic number)"));
  EXPECT_THAT(refusal(object("test_plugin_wrong_2")), HasSubstr("another form (8 bytes"));
  EXPECT_THAT(refusal(object("test_plugin_wrong_3")), HasSubstr("another form"));
  EXPECT_THAT(refusal(object("test_plugin_wrong_4")),
              HasSubstr("was built for kvlab-abi:hidden, but this is"));
}

TEST(Plugin, FilesThatAreNoObjectsAreRefused) {
  const test::Scratch scratch;
  write_file(scratch / "text.so", "not an object\n");
  write_file(scratch / "empty.so", "");
  EXPECT_THAT(
      refusal(scratch / "text.so"),
      StartsWith("E_PLUGIN: plugin `" + (scratch / "text.so").string() + "` cannot be opened: "));
  EXPECT_THAT(refusal(scratch / "empty.so"), StartsWith("E_PLUGIN: "));
  EXPECT_THAT(refusal(scratch / "none.so"), StartsWith("E_FILE: "));
  EXPECT_THAT(refusal(scratch.path()), HasSubstr("it is a folder"));
}

TEST(Plugin, AFileThatWasCutOffIsRefusedWhereverItWasCut) {
  const test::Scratch scratch;
  const std::string whole = read_file(object("test_plugin_good"), int64_t{1} << 30);
  for (size_t bytes = 4; bytes < whole.size(); bytes += 1 + bytes / 7) {
    write_file(scratch / "cut.so", whole.substr(0, bytes));
    EXPECT_EQ(refusal(scratch / "cut.so"),
              "E_PLUGIN: plugin `" + (scratch / "cut.so").string() + "` is cut off; copy it again");
  }
}

TEST(PluginAbi, NamesHeadersTorchCompilerAndLibraries) {
  EXPECT_THAT(kPluginAbi, testing::MatchesRegex(
                              "kvlab-abi:core-[0-9a-f]+/torch-[0-9.]+[^/]*/(gcc|clang)-[0-9]+/"
                              "libstdc\\+\\+-[0-9]+-cxx11-[01]/json-[0-9.]+"));
}

}  // namespace
}  // namespace kvlab
