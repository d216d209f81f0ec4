#pragma once
// A program that answers one line with one line.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// Started without a shell; its standard input and output are ours, its standard error is kept for
/// error messages.  It is ended, and waited for, when the object goes.
class ChildProcess {
 public:
  /// E_FILE: the program cannot be started.  `who` names it in errors.
  ChildProcess(std::string who, const std::filesystem::path& program,
               const std::vector<std::string>& arguments);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// One line without its newline.  E_FILE: the program is gone, with how it ended and the last
  /// line it wrote to its standard error.
  std::string read_line();
  void write_line(std::string_view line);

  /// To wait for several children with poll(2): readable when read_arrived() does not wait.
  int descriptor() const;
  /// Lines that have arrived, possibly none; waits until something did.  Errors as read_line().
  std::vector<std::string> read_arrived();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab
