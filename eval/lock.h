#pragma once
// One writer per run directory.

#include <filesystem>

namespace kvlab {

/// Holds `path` for this process until destroyed; the system lets go of it when a process dies.
class FileLock {
 public:
  /// E_BUSY when another process holds it, E_DISK when it cannot be made.
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int file_ = -1;
};

}  // namespace kvlab
