#include "eval/python.h"

#include <dlfcn.h>

#include <cstdlib>

#include "core/error.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

/// Where this code was loaded from: libkvlab, wherever it is installed or was built.
fs::path own_library() {
  Dl_info info{};
  KVLAB_CHECK(dladdr(reinterpret_cast<const void*>(&own_library), &info) != 0);
  std::error_code ignored;
  return fs::weakly_canonical(info.dli_fname, ignored);
}

}  // namespace

fs::path find_python(std::string_view code, std::string_view packages, std::string_view instead) {
  if (const char* given = std::getenv("KVLAB_PYTHON"); given != nullptr && *given != '\0') {
    KVLAB_REQUIRE(fs::exists(given), code, "KVLAB_PYTHON is ", given, ", which does not exist",
                  instead);
    return given;
  }
  fs::path folder = own_library().parent_path();
  for (; folder != folder.root_path(); folder = folder.parent_path())
    for (const char* python : {"bin/python3", ".venv/bin/python3"})
      if (fs::exists(folder / python)) return folder / python;
  fail(code, "no Python environment lies around ", own_library().string(),
       "; set KVLAB_PYTHON to a python3 with ", packages, instead);
}

}  // namespace kvlab
