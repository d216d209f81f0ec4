#pragma once
// Files, read whole or mapped, written all or nothing.  Every failure is E_FILE with one sentence
// that names the path, the reason and what to do about it.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/types.h"

namespace kvlab {

/// The contents; a pipe is read to its end.  E_FILE: missing, a directory, unreadable, longer than
/// `max_bytes`.
std::string read_file(const std::filesystem::path& path, int64_t max_bytes);

/// A regular file as memory, read-only.  Its size is taken when it is opened: a file that somebody
/// else shortens afterwards faults, so writers replace files instead (AtomicFile does).
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const u8> bytes() const { return bytes_; }

 private:
  std::span<const u8> bytes_{};
};

/// A file that appears under its name whole or not at all: written under a temporary name in the
/// same folder, synced and renamed by commit(), removed when commit() was not reached.  An existing
/// regular file or link of that name is replaced; a folder, device or pipe is refused.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, int64_t bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::filesystem::path path_{}, temporary_{};
  int fd_ = -1;
};

/// Whether an AtomicFile may have left a file of this name behind when its process was killed.
bool is_temporary_name(std::string_view filename);

/// AtomicFile with these contents.
void write_file(const std::filesystem::path& path, std::string_view contents);

/// Adds `text` at the end, in one write where the system allows, and syncs it.  A crash leaves a
/// prefix of it at most, so readers of such files ignore a last line without its newline.
void append_file(const std::filesystem::path& path, std::string_view text);

}  // namespace kvlab
