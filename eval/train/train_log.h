#pragma once
// log.jsonl of a training run: a line per step and per validation.

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/json.h"

namespace kvlab {

class TrainLog {
 public:
  explicit TrainLog(std::filesystem::path path);
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  /// Forgets every line of a later step than `step` (what ran after the checkpoint that a run
  /// resumes from), and what a crash left half written.
  void keep_until(int64_t step);
  /// Written within a few seconds, all of it by flush().
  void add(const Json& line);
  void flush();

 private:
  std::filesystem::path path_;
  std::string waiting_{};
  double written_at_ = 0;
};

/// Its whole lines.  E_FILE.
std::vector<Json> read_log(const std::filesystem::path& path);

}  // namespace kvlab
