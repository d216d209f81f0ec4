#include "eval/child_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

extern char** environ;

namespace kvlab {
namespace {

/// A file descriptor that closes itself.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// What the child is to have as its descriptors 0, 1 and 2; everything else is closed on exec.
class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  void become(const Fd& from, int to) {
    posix_spawn_file_actions_adddup2(&actions_, from.get(), to);
  }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

/// The last line of a file that has one.
std::string last_line(const Fd& file) {
  constexpr off_t kMost = 2000;
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  const off_t first = size > kMost ? size - kMost : 0;
  std::string text(static_cast<size_t>(size - first), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), first);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text.substr(text.find_last_of('\n') + 1);
}

std::string ending_of(int status) {
  if (WIFSIGNALED(status)) return "was ended by signal " + std::to_string(WTERMSIG(status));
  return "ended with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

struct ChildProcess::Impl {
  std::string who;
  Fd socket, errors;
  pid_t pid = -1;
  std::string pending{};  // read, not yet asked for

  /// Closes our end, so that the child sees the end of its input, and waits for it.
  int wait() {
    socket = Fd();
    int status = 0;
    while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    pid = -1;
    return status;
  }

  /// Whatever is there, at least a byte.
  void receive() {
    std::array<char, 1 << 16> block;
    ssize_t n = -1;
    do {
      n = ::recv(socket.get(), block.data(), block.size(), 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) gone();
    pending.append(block.data(), static_cast<size_t>(n));
  }

  std::string take_line(size_t end) {
    std::string line = pending.substr(0, end);
    pending.erase(0, end + 1);
    return line;
  }

  [[noreturn]] void gone() {
    const int status = wait();
    const std::string said = last_line(errors);
    fail("E_FILE", who, " ", ending_of(status), said.empty() ? "" : ": ", said);
  }
};

ChildProcess::ChildProcess(std::string who, const std::filesystem::path& program,
                           const std::vector<std::string>& arguments)
    : impl_(std::make_unique<Impl>()) {
  impl_->who = std::move(who);
  // A socket, because a write to one whose reader is gone can be told not to raise SIGPIPE.
  std::array<int, 2> ends{};
  KVLAB_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0, "E_FILE",
                impl_->who, " cannot be started: ", std::strerror(errno));
  impl_->socket = Fd(ends[0]);
  const Fd theirs(ends[1]);
  impl_->errors = Fd(::memfd_create("kvlab child errors", MFD_CLOEXEC));
  KVLAB_REQUIRE(impl_->errors.get() >= 0, "E_FILE", impl_->who,
                " cannot be started: ", std::strerror(errno));

  SpawnActions actions;
  actions.become(theirs, STDIN_FILENO);
  actions.become(theirs, STDOUT_FILENO);
  actions.become(impl_->errors, STDERR_FILENO);
  std::vector<std::string> words{program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int error =
      ::posix_spawn(&impl_->pid, program.c_str(), actions.get(), nullptr, argv.data(), environ);
  if (error != 0) impl_->pid = -1;
  KVLAB_REQUIRE(error == 0, "E_FILE", impl_->who, " cannot be started: ", program.string(), ": ",
                std::strerror(error));
}

ChildProcess::~ChildProcess() {
  if (impl_->pid > 0) impl_->wait();
}

void ChildProcess::write_line(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n =
        ::send(impl_->socket.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) impl_->gone();
    sent += static_cast<size_t>(n);
  }
}

std::string ChildProcess::read_line() {
  size_t searched = 0;
  while (true) {
    if (const size_t end = impl_->pending.find('\n', searched); end != std::string::npos)
      return impl_->take_line(end);
    searched = impl_->pending.size();
    impl_->receive();
  }
}

int ChildProcess::descriptor() const { return impl_->socket.get(); }

std::vector<std::string> ChildProcess::read_arrived() {
  std::vector<std::string> lines;
  const size_t searched = impl_->pending.size();
  impl_->receive();
  for (size_t end = impl_->pending.find('\n', searched); end != std::string::npos;
       end = impl_->pending.find('\n'))
    lines.push_back(impl_->take_line(end));
  return lines;
}

}  // namespace kvlab
