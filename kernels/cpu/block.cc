#include "kernels/cpu/block.h"

#include <algorithm>
#include <limits>

namespace kvlab {

BlockReader::BlockReader(const Segment& segment, const ListRange& range, int64_t first,
                         int64_t last, int run_rows, const QuerySpan& queries)
    : segment_(segment),
      range_(range),
      list_(segment.rows, range.list),
      at_(first),
      last_(last),
      run_rows_(run_rows),
      queries_(queries) {}

bool BlockReader::next(Block& block) {
  while (at_ < last_) {
    const int64_t end = std::min(last_, at_ + kMaxBlock);
    fill(block, at_, end);
    at_ = end;
    if (block.tokens > 0 && look(block)) return true;
  }
  return false;
}

Run BlockReader::ahead(int at) const {
  Run run;
  if (at_ + at >= last_ || segment_.narrowed) return run;
  run.page = list_.page_of(at_ + at);
  run.row = list_.row_of(at_ + at);
  return run;
}

void BlockReader::fill(Block& block, int64_t begin, int64_t end) const {
  block.runs.clear();
  block.tokens = 0;
  if (!segment_.narrowed) return add_slots(block, begin, end);
  const int64_t* slots = segment_.narrowed->values.as<const int64_t>() +
                         segment_.narrowed->indptr[static_cast<size_t>(range_.list)];
  for (int64_t i = begin; i < end;) {
    int64_t n = 1;
    while (i + n < end && slots[i + n] == slots[i] + n) ++n;
    add_slots(block, slots[i], slots[i] + n);
    i += n;
  }
}

void BlockReader::add_slots(Block& block, int64_t begin, int64_t end) const {
  while (begin < end) {
    const int row = list_.row_of(begin);
    int64_t n = std::min<int64_t>(end - begin, list_.page_tokens() - row);
    n = std::min<int64_t>(n, run_rows_ - row % run_rows_);
    if (const u8* page = list_.page_of(begin); page != nullptr) {
      block.runs.push_back({.page = page,
                            .slot = begin,
                            .row = row,
                            .rows = static_cast<int32_t>(n),
                            .at = block.tokens});
      block.tokens += static_cast<int32_t>(n);
    }
    begin += n;
  }
}

void BlockReader::read_intervals(Block& block) const {
  if (block.has_intervals) return;
  for (const Run& run : block.runs)
    list_.intervals(run, block.position + run.at, block.from + run.at, block.until + run.at);
  block.has_intervals = true;
}

bool BlockReader::look(Block& block) const {
  block.has_intervals = block.is_masked = false;
  return is_plain(block) || look_at_intervals(block);
}

/// Whether every query may read every row, as ends alone can tell.
bool BlockReader::is_plain(const Block& block) const {
  if (!list_.is_plain_from(block.runs.back().slot + block.runs.back().rows - 1, queries_.first))
    return false;
  return queries_.window_left < 0 || list_.implicit_position(block.runs.front().slot) >=
                                         int64_t{queries_.last} - queries_.window_left;
}

bool BlockReader::look_at_intervals(Block& block) const {
  read_intervals(block);
  constexpr int32_t kLowest = std::numeric_limits<int32_t>::min();
  const auto bound = [&](int32_t query) {
    return queries_.window_left < 0
               ? kLowest
               : static_cast<int32_t>(std::max<int64_t>(kLowest, query - queries_.window_left));
  };
  const int32_t oldest_for_first = bound(queries_.first), oldest_for_last = bound(queries_.last);
  bool any = false, all = true;
  for (int i = 0; i < block.tokens; ++i) {
    any |= block.from[i] <= queries_.last && block.until[i] >= queries_.first &&
           block.position[i] >= oldest_for_first;
    all &= block.from[i] <= queries_.first && block.until[i] >= queries_.last &&
           block.position[i] >= oldest_for_last;
  }
  block.is_masked = !all;
  return any;
}

}  // namespace kvlab
