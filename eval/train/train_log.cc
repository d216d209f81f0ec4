#include "eval/train/train_log.h"

#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "eval/process.h"

namespace kvlab {
namespace {

constexpr double kWriteEvery = 2;  // seconds
constexpr int64_t kLargest = int64_t{1} << 30;

}  // namespace

TrainLog::TrainLog(std::filesystem::path path) : path_(std::move(path)) {}

TrainLog::~TrainLog() {
  try {
    flush();
  } catch (const Error&) {
    waiting_.clear();  // computed again from the checkpoint
  }
}

void TrainLog::keep_until(int64_t step) {
  if (!std::filesystem::exists(path_)) return;
  std::string kept;
  for (const Json& line : read_log(path_))
    if (line.at("step").get<int64_t>() <= step) kept += line.dump() + "\n";
  write_file(path_, kept);
}

void TrainLog::add(const Json& line) {
  waiting_ += line.dump() + "\n";
  if (seconds_now() - written_at_ > kWriteEvery) flush();
}

void TrainLog::flush() {
  if (waiting_.empty()) return;
  append_file(path_, waiting_);
  waiting_.clear();
  written_at_ = seconds_now();
}

std::vector<Json> read_log(const std::filesystem::path& path) {
  const std::string text = read_file(path, kLargest);
  std::vector<Json> lines;
  for (size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1)
    lines.push_back(parse_json(text.substr(at, end - at), path.string()));
  return lines;
}

}  // namespace kvlab
