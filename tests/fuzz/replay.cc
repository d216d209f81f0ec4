// Stands in for libFuzzer where there is none: every file of the folders that are named goes
// through the target once.

#include <filesystem>
#include <iostream>

#include "core/files.h"
#include "tests/fuzz/fuzz.h"

int main(int argc, char** argv) {
  int replayed = 0;
  for (int i = 1; i < argc; ++i)
    for (const auto& file : std::filesystem::directory_iterator(argv[i])) {
      kvlab::fuzz::target(kvlab::read_file(file.path(), 1 << 20));
      ++replayed;
    }
  std::cout << replayed << " seeds\n";
  return replayed > 0 ? 0 : 1;
}
