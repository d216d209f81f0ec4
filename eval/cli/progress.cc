#include "eval/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "eval/process.h"

namespace kvlab::cli {
namespace {

constexpr double kShowAfter = 2, kRedrawEvery = 0.1;  // seconds
constexpr int kBarWidth = 24;

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

}  // namespace

std::string clock_text(double seconds) {
  const long long all = std::llround(std::max(seconds, 0.0));
  char text[32];
  if (all >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", all / 3600, all / 60 % 60, all % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", all / 60, all % 60);
  }
  return text;
}

Progress::Progress() : Progress(isatty(STDERR_FILENO) == 1) {}
Progress::Progress(bool is_terminal) : is_terminal_(is_terminal), started_(seconds_now()) {}
Progress::~Progress() { clear(); }

void Progress::clear() {
  if (!is_shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  is_shown_ = false;
}

void Progress::show(const std::string& text) {
  const double now = seconds_now();
  if (!is_terminal_ || now - started_ < kShowAfter || now - shown_at_ < kRedrawEvery) return;
  std::fputs(("\r\x1b[K" + text.substr(0, terminal_width() - 1)).c_str(), stderr);
  std::fflush(stderr);
  is_shown_ = true;
  shown_at_ = now;
}

void Progress::step(const std::string& what) { show(what + " ..."); }

void Progress::update(int64_t done, int64_t all, const std::string& what) {
  const double now = seconds_now();
  if (work_started_ < 0) {
    work_started_ = now;
    work_before_ = done;
  }
  if (all <= work_before_) return;
  const double share =
      static_cast<double>(done - work_before_) / static_cast<double>(all - work_before_);
  show(line(share, now - work_started_, what));
}

std::string Progress::line(double share, double seconds, const std::string& what) {
  share = std::clamp(share, 0.0, 1.0);
  const int filled = static_cast<int>(share * kBarWidth);
  std::string bar(static_cast<size_t>(filled), '=');
  if (filled < kBarWidth) bar += '>';
  bar.resize(kBarWidth, ' ');
  std::string text = "[" + bar + "] " + std::to_string(static_cast<int>(share * 100)) + " %";
  if (share > 0) text += "  " + clock_text(seconds / share - seconds) + " left";
  return text + "  " + what;
}

}  // namespace kvlab::cli
