// kvlab worker: one of the processes of `--jobs`.  Nobody types it, so no help lists it.

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <thread>

#include "core/error.h"
#include "eval/cli/command.h"
#include "eval/cli/exit_code.h"
#include "eval/experiment/serve_cells.h"

namespace kvlab::cli {
namespace {

bool is_socket(int file) {
  struct stat status{};
  return ::fstat(file, &status) == 0 && S_ISSOCK(status.st_mode);
}

/// Whoever started this process decides when it ends, and takes it along when it dies itself,
/// whatever this process is doing at that moment.
void end_with_parent() {
  std::signal(SIGINT, SIG_IGN);  // the terminal tells every process; the parent answers
  std::signal(SIGTERM, SIG_IGN);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::thread([] {
    pollfd parent{.fd = STDIN_FILENO, .events = POLLRDHUP, .revents = 0};
    while (::poll(&parent, 1, -1) < 0 && errno == EINTR) continue;
    ::_exit(kDone);
  }).detach();
}

/// The standard output as a descriptor of its own; what libraries print goes to standard error.
int take_standard_output() {
  const int taken = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  KVLAB_REQUIRE(taken >= 0 && ::dup2(STDERR_FILENO, STDOUT_FILENO) >= 0, "E_FILE",
                "worker: ", std::strerror(errno));
  return taken;
}

std::optional<std::string> read_line() {
  std::string line;
  return std::getline(std::cin, line) ? std::optional(std::move(line)) : std::nullopt;
}

void write_line(int file, std::string_view text) {
  const std::string line = std::string(text) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t n = ::write(file, line.data() + sent, line.size() - sent);
    KVLAB_REQUIRE(n >= 0 || errno == EINTR, "E_FILE", "worker: ", std::strerror(errno));
    if (n > 0) sent += static_cast<size_t>(n);
  }
}

int run_worker(const MethodOptions& methods) {
  KVLAB_REQUIRE(is_socket(STDIN_FILENO), "E_USAGE",
                "worker: is started by `kvlab eval --jobs N` alone");
  end_with_parent();
  const int answers = take_standard_output();
  serve_cells(
      methods.registry(), catalogue(),
      {.read = read_line, .write = [&](std::string_view line) { write_line(answers, line); }});
  return kDone;
}

}  // namespace

void add_worker(CLI::App& app, Invocation& invocation) {
  auto methods = std::make_shared<MethodOptions>();
  CLI::App& command = *app.add_subcommand("worker", "a process of `kvlab eval --jobs N`");
  command.group("");  // hidden
  methods->add_plugins(command);
  command.callback(
      [methods, &invocation] { invocation.chosen = [methods] { return run_worker(*methods); }; });
}

}  // namespace kvlab::cli
