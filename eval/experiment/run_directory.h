#pragma once
// Where a run leaves what it found.
//
//   cells/<id>.json   one finished cell: what it was, what was seen, how long it took
//   record.json       what is needed to judge and repeat the run
//   results.jsonl     one line per cell and metric, in the order of the expansion
//   samples.jsonl     one line per cell and sample
//   summary.csv       results.jsonl as a table of fixed columns
//   summary.md        a table per question, dense first
//   report.html       tables, plots and the record as one page
//   lock              held while somebody writes
//
// cells/ is the truth: a cell is there whole or not at all, and everything else is written again
// from it.  So a run that was killed, or that found the disk full, goes on where it stopped.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "eval/lock.h"

namespace kvlab {

class RunDirectory {
 public:
  /// Creates it where needed and removes what a killed writer left half done.  E_BUSY, E_DISK.
  explicit RunDirectory(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  bool has_cell(const std::string& id) const;
  /// Nothing when there is none or it cannot be understood (it is then run again).
  std::optional<Json> load_cell(const std::string& id) const;
  void save_cell(const std::string& id, const Json& cell) const;
  /// E_DISK: the old file stays.
  void write(const std::string& name, std::string_view contents) const;
  std::optional<Json> load(const std::string& name) const;

 private:
  std::filesystem::path path_;
  FileLock lock_;
};

}  // namespace kvlab
