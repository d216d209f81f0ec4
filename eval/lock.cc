#include "eval/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace kvlab {

FileLock::FileLock(const std::filesystem::path& path) {
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  KVLAB_REQUIRE(file_ >= 0, "E_DISK", path.string(), ": cannot be created: ", std::strerror(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(file_);
  fail("E_BUSY", path.parent_path().string(), ": another process is writing to this run ",
       "directory; wait for it or choose another with --out");
}

FileLock::~FileLock() { ::close(file_); }

}  // namespace kvlab
