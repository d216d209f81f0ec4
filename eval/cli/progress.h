#pragma once
// A line on the terminal for whatever takes longer than two seconds.

#include <cstdint>
#include <string>

namespace kvlab::cli {

/// Writes to stderr, and only if that is a terminal; the line is erased at the end.
class Progress {
 public:
  Progress();
  explicit Progress(bool is_terminal);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Something of unknown length has begun.
  void step(const std::string& what);
  void update(int64_t done, int64_t all, const std::string& what);
  /// Nothing of it stays on the terminal; the next update draws it again.
  void clear();

  /// "[=====>    ] 43 %  1:02 left  mqar, quant(bits=4)"
  static std::string line(double share, double seconds, const std::string& what);

 private:
  void show(const std::string& text);
  bool is_terminal_, is_shown_ = false;
  double started_, shown_at_ = 0;
  double work_started_ = -1;  // of the first update: what loading took says nothing about the rest
  int64_t work_before_ = 0;
};

/// "1:02", "3:04:05"
std::string clock_text(double seconds);

}  // namespace kvlab::cli
