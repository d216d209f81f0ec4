#pragma once
// Level `materialised`: segments whose bytes no kernel reads, some rows at a time, as float32
// pages. Either a method rebuilds keys and values from several rows (Layout::rebuilds), or the rows
// are coded by functions from elsewhere (codecs without kernels).

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/page_layout.h"
#include "kernels/cpu/attend.h"

namespace kvlab {

bool is_materialised(const Segment& segment);

/// Slots keep their numbers, positions and intervals, so a round is read as its source would be.
class MaterialisedRows {
 public:
  MaterialisedRows(const AttendCall& call, const Segment& segment);

  /// Rounds that together cover every row some query of the call may read.
  int64_t rounds() const { return last_round_ - first_round_; }
  /// The rows of one round, in memory of resources.shared.  Valid until the next.
  Segment make(int64_t round, CpuResources& resources);

  int64_t bytes_read() const { return bytes_read_; }  // stored bytes, of all rounds so far
  const std::string& kernel() const { return kernel_; }
  const std::string& reason() const { return reason_; }

 private:
  struct Rows;
  void plan_pages();
  void plan_rounds();
  void fill_list(int list, CpuResources& resources);
  void copy_columns(const Rows& rows);
  void rebuild(const Rows& rows, CpuResources& resources);
  TensorView decode(int stream, const Rows& rows, CpuResources& resources);
  TensorView gather_column(int column, const Rows& rows, Scratch& scratch) const;
  void store(int stream, const Rows& rows, const TensorView& x, int64_t first_unit);

  const AttendCall& call_;
  const Segment& source_;
  Layout layout_{};  // how the made pages are read
  PageLayout pages_{};
  std::vector<Range> wanted_{};  // slots of each list
  int64_t step_ = 0;             // slots of a list in a round
  int64_t first_round_ = 0, last_round_ = 0;
  PartView made_{};
  std::vector<std::vector<int32_t>> ids_{};
  int64_t bytes_read_ = 0;
  std::string kernel_{}, reason_{};
};

}  // namespace kvlab
