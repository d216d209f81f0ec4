#pragma once
// What fuzz targets share.  A target is one file that defines fuzz::target and a folder of seeds;
// tests/fuzz/CMakeLists.txt lists it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <string_view>

#include "core/error.h"

namespace kvlab::fuzz {

/// Returns whatever the input is; ends the run where a law is broken.
void target(std::string_view input);

/// Ends the run: libFuzzer keeps the input.
[[noreturn]] inline void broken(std::string_view law) {
  std::cerr << "broken: " << law << '\n';
  std::abort();
}

inline void require(bool holds, std::string_view law) {
  if (!holds) broken(law);
}

/// Whether `act` accepts its input.  It may refuse with an Error of one of these codes, in a short
/// sentence that is UTF-8; whatever else it throws ends the run.
template <class Act>
bool accepts(std::initializer_list<std::string_view> codes, Act&& act) {
  try {
    act();
    return true;
  } catch (const Error& error) {
    bool expected = false;
    for (const std::string_view code : codes) expected = expected || error.code() == code;
    require(expected, error.what());
    require(std::string_view(error.what()).size() < 2000, "messages are short");
    require(printable(error.message(), 2000) == error.message(), "messages are printable UTF-8");
    return false;
  }
}

}  // namespace kvlab::fuzz

/// What libFuzzer calls.
extern "C" [[gnu::used]] inline int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvlab::fuzz::target({reinterpret_cast<const char*>(data), size});
  return 0;
}
