// The `kvlab` command.

#include <exception>
#include <iostream>
#include <string_view>

#include "core/version.h"

namespace {

void print_version() {
  const kvlab::Version& v = kvlab::version();
  std::cout << "kvlab " << v.number << "\ncommit " << v.commit << "\nbuild " << v.build << ", "
            << v.compiler << "\ntorch " << v.torch << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    print_version();
    return 0;
  }
  std::cerr << "usage: kvlab --version\n";
  return 2;
}
