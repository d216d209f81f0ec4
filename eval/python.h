#pragma once
// The Python that runs kvlab's own Python halves.

#include <filesystem>
#include <string_view>

namespace kvlab {

/// KVLAB_PYTHON where it is set, else the Python of the nearest environment around the library this
/// code was loaded from: BIN/python3 where the package is installed in LIB of the same prefix,
/// .venv/bin/python3 beside a build folder.  `code` is the error's where there is none, `packages`
/// what that Python has to have, `instead` how the sentence ends.
std::filesystem::path find_python(std::string_view code, std::string_view packages,
                                  std::string_view instead);

}  // namespace kvlab
