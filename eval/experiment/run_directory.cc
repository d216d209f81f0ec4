#include "eval/experiment/run_directory.h"

#include "core/error.h"
#include "core/files.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

/// The folder, with `cells` in it.
fs::path made(fs::path path) {
  std::error_code error;
  fs::create_directories(path / "cells", error);
  KVLAB_REQUIRE(
      fs::is_directory(path / "cells"), "E_DISK", path.string(),
      ": cannot be used as a run directory: ", error ? error.message() : "a file is in the way");
  return path;
}

constexpr int64_t kLargest = int64_t{8} << 30;

}  // namespace

RunDirectory::RunDirectory(fs::path path) : path_(made(std::move(path))), lock_(path_ / "lock") {
  for (const fs::path& folder : {path_, path_ / "cells"}) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename();
      std::error_code ignored;  // a leftover that cannot be removed harms nobody
      if (entry.is_regular_file() && is_temporary_name(name)) fs::remove(entry.path(), ignored);
    }
  }
}

bool RunDirectory::has_cell(const std::string& id) const {
  return fs::exists(path_ / "cells" / (id + ".json"));
}

std::optional<Json> RunDirectory::load_cell(const std::string& id) const {
  return load("cells/" + id + ".json");
}

void RunDirectory::save_cell(const std::string& id, const Json& cell) const {
  write("cells/" + id + ".json", cell.dump() + "\n");
}

void RunDirectory::write(const std::string& name, std::string_view contents) const {
  try {
    write_file(path_ / name, contents);
  } catch (const Error& error) {
    fail("E_DISK", error.message(), "; finished cells are kept: make room, then run the same ",
         "command again");
  }
}

std::optional<Json> RunDirectory::load(const std::string& name) const {
  if (!fs::exists(path_ / name)) return std::nullopt;
  try {
    return parse_json(read_file(path_ / name, kLargest), name);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace kvlab
