#include "core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

std::string reason_of(int error) {
  switch (error) {
    case ENOENT:
      return "no such file or folder; check the path";
    case ENOTDIR:
      return "a part of the path is not a folder; check the path";
    case EACCES:
    case EPERM:
      return "permission denied; change its mode or choose another path";
    case EISDIR:
      return "it is a folder, not a file";
    case ENOSPC:
    case EDQUOT:
      return "the disk is full; free space or choose a folder on another disk";
    case EFBIG:
      return "the file would exceed the size the system allows; raise the limit or choose another "
             "disk";
    case EROFS:
      return "the disk is read-only; choose a folder on another disk";
    case ENAMETOOLONG:
      return "the name is too long";
    case EMFILE:
    case ENFILE:
      return "too many files are open; raise `ulimit -n`";
    default:
      return std::strerror(error);
  }
}

[[noreturn]] void refuse(std::string_view verb, const fs::path& path, std::string_view reason) {
  fail("E_FILE", "cannot ", verb, " `", printable(path.native(), 400), "`: ", reason);
}

[[noreturn]] void refuse(std::string_view verb, const fs::path& path, int error) {
  refuse(verb, path, reason_of(error));
}

/// Closes itself; what a constructor or a function holds until it is done.
struct Fd {
  int value = -1;
  explicit Fd(int fd) : value(fd) {}
  ~Fd() {
    if (value >= 0) ::close(value);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
};

template <class Call>
auto retried(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

int open_fd(const fs::path& path, int flags) {
  return retried([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
}

struct stat status_of(int fd, std::string_view verb, const fs::path& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) refuse(verb, path, errno);
  return status;
}

void write_all(int fd, const void* data, size_t bytes, const fs::path& path) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto written = retried([&] { return ::write(fd, at, bytes); });
    if (written < 0) refuse("write", path, errno);
    at += written;
    bytes -= static_cast<size_t>(written);
  }
}

void sync(int fd, const fs::path& path) {
  if (retried([&] { return ::fsync(fd); }) != 0 && errno != EINVAL && errno != ENOTSUP)
    refuse("write", path, errno);  // EINVAL: a device that has nothing to sync
}

fs::path folder_of(const fs::path& path) {
  const fs::path folder = path.parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

fs::path temporary_name(const fs::path& path) {
  static std::atomic<unsigned> count{0};
  const std::string unique = std::to_string(::getpid()) + "-" + std::to_string(count++);
  const std::string name = path.filename().native().substr(0, 200);  // names end at 255 bytes
  return folder_of(path) / ("." + name + "." + unique + ".tmp");
}

}  // namespace

std::string read_file(const fs::path& path, int64_t max_bytes) {
  const Fd file(open_fd(path, O_RDONLY));
  if (file.value < 0) refuse("read", path, errno);
  const struct stat status = status_of(file.value, "read", path);
  if (S_ISDIR(status.st_mode)) refuse("read", path, EISDIR);
  const auto too_long = [&](const std::string& size) {
    refuse("read", path, size + " bytes, more than the " + std::to_string(max_bytes) + " allowed");
  };
  if (status.st_size > max_bytes) too_long(std::to_string(status.st_size));

  std::string contents(static_cast<size_t>(status.st_size) + 1, '\0');
  size_t used = 0;
  for (;;) {  // the size is a hint: pipes have none and files grow
    if (used == contents.size()) contents.resize(std::max(2 * used, size_t{4096}));
    const auto got =
        retried([&] { return ::read(file.value, contents.data() + used, contents.size() - used); });
    if (got < 0) refuse("read", path, errno);
    used += static_cast<size_t>(got);
    if (std::cmp_greater(used, max_bytes)) too_long("at least " + std::to_string(used));
    if (got == 0) break;
  }
  contents.resize(used);
  return contents;
}

MappedFile::MappedFile(const fs::path& path) {
  const Fd file(open_fd(path, O_RDONLY | O_NONBLOCK));  // a pipe must not block here
  if (file.value < 0) refuse("read", path, errno);
  const struct stat status = status_of(file.value, "read", path);
  if (S_ISDIR(status.st_mode)) refuse("read", path, EISDIR);
  if (!S_ISREG(status.st_mode)) refuse("read", path, "it is not a regular file");
  if (status.st_size == 0) return;  // nothing to map
  const auto size = static_cast<size_t>(status.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (memory == MAP_FAILED) refuse("map", path, errno);
  bytes_ = {static_cast<const u8*>(memory), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<u8*>(bytes_.data()), bytes_.size());
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path), temporary_(temporary_name(path)) {
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode))
    refuse("write", path_,
           S_ISDIR(status.st_mode) ? reason_of(EISDIR) : "it is not a regular file");
  fd_ = open_fd(temporary_, O_WRONLY | O_CREAT | O_EXCL);
  if (fd_ < 0) refuse("write", path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, int64_t bytes) {
  KVLAB_CHECK(fd_ >= 0 && bytes >= 0);
  write_all(fd_, data, static_cast<size_t>(bytes), path_);
}

void AtomicFile::write(std::string_view text) {
  write(text.data(), static_cast<int64_t>(text.size()));
}

void AtomicFile::commit() {
  KVLAB_CHECK(fd_ >= 0);
  sync(fd_, path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) refuse("write", path_, errno);
  ::close(std::exchange(fd_, -1));
  const Fd folder(open_fd(folder_of(path_), O_RDONLY | O_DIRECTORY));
  if (folder.value >= 0) sync(folder.value, path_);  // the name itself survives a power cut
}

bool is_temporary_name(std::string_view filename) {
  return filename.starts_with('.') && filename.ends_with(".tmp");
}

void write_file(const fs::path& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

void append_file(const fs::path& path, std::string_view text) {
  const Fd file(open_fd(path, O_WRONLY | O_CREAT | O_APPEND));
  if (file.value < 0) refuse("write", path, errno);
  write_all(file.value, text.data(), text.size(), path);
  sync(file.value, path);
}

}  // namespace kvlab
