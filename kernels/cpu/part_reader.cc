#include "kernels/cpu/part_reader.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/error.h"

namespace kvlab {

StreamReader::StreamReader(const PageLayout& page, int stream, Isa isa) {
  KVLAB_CHECK(stream >= 0 && stream < static_cast<int>(page.streams.size()));
  layout_ = &page.streams[static_cast<size_t>(stream)];
  const Codec& codec = *layout_->codec;
  if (codec.kernels) {
    kernels_ = codec.kernels(layout_->width, layout_->params);
    table_ = kernels_->table[static_cast<size_t>(isa)];
    KVLAB_REQUIRE(table_ != nullptr, "E_UNSUPPORTED", "cpu engine: codec ", codec.name,
                  " was not compiled for this instruction set");
  }
  const auto& planes = layout_->format.planes;
  const auto bytes = [&](size_t i) { return planes[i].row_bytes + planes[i].tile_bytes; };
  for (size_t i = 0; i < planes.size(); ++i) {
    bytes_per_row_ += planes[i].row_bytes + planes[i].tile_bytes / layout_->format.tile_tokens;
    if (bytes(i) > bytes(static_cast<size_t>(largest_plane_))) largest_plane_ = static_cast<int>(i);
  }
}

TilePart StreamReader::part(const u8* page, int unit, int row, int rows, int first, int features,
                            void* state) const {
  TilePart part{};
  part.params = kernels_->params;
  part.state = state;
  part.rows = rows;
  part.first_feature = first;
  part.features = features;
  const int tile = tile_rows() == 1 ? row : row / tile_rows();
  part.first_row = tile_rows() == 1 ? 0 : row % tile_rows();
  part.tile.rows = tile_rows() == 1 ? rows : tile_rows();
  const auto& planes = layout_->format.planes;
  for (size_t i = 0; i < planes.size(); ++i) {
    const int64_t step = int64_t{planes[i].row_bytes} * tile_rows() + planes[i].tile_bytes;
    part.tile.plane[i] =
        page + layout_->planes[i].offset + unit * layout_->planes[i].unit_stride + tile * step;
    part.tile.stride[i] = planes[i].row_bytes;
  }
  return part;
}

Ahead StreamReader::ahead(const Run& run, int unit) const {
  Ahead ahead{};
  if (run.page == nullptr) return ahead;
  int small = 0;
  const auto& planes = layout_->format.planes;
  for (size_t i = 0; i < planes.size(); ++i) {
    const int step = planes[i].row_bytes + planes[i].tile_bytes / tile_rows();
    const u8* at = run.page + layout_->planes[i].offset + unit * layout_->planes[i].unit_stride +
                   int64_t{run.row} * step;
    if (static_cast<int>(i) == largest_plane_) {
      ahead.at = at;
      ahead.step = step;
    } else if (small < 2) {
      ahead.small[small] = at;
      ahead.small_step[small++] = step;
    }
  }
  return ahead;
}

ListReader::ListReader(const PartView& part, int list)
    : part_(part),
      list_(part.lists[static_cast<size_t>(list)]),
      page_tokens_(part.page->page_tokens),
      page_log2_(std::countr_zero(static_cast<unsigned>(part.page->page_tokens))) {}

int64_t ListReader::position_at(int64_t slot) const {
  if (part_.page->position < 0) return slot + part_.position_offset;
  const u8* page = page_of(slot);
  const ColumnLayout& column = part_.page->columns[static_cast<size_t>(part_.page->position)];
  return reinterpret_cast<const int32_t*>(page + column.offset)[row_of(slot)];
}

int64_t ListReader::next_live(int64_t slot, int64_t end) const {
  while (slot < end && page_of(slot) == nullptr) slot = ((slot >> page_log2_) + 1) << page_log2_;
  return std::min(slot, end);
}

int64_t ListReader::first_at(int64_t position) const {
  int64_t low = list_.first, high = list_.last;  // below low: less; from high on: not less
  if (part_.page->position < 0) return std::clamp(position - part_.position_offset, low, high);
  while (low < high) {
    const int64_t middle = low + (high - low) / 2, live = next_live(middle, high);
    if (live < high && position_at(live) < position)
      low = live + 1;
    else
      high = middle;
  }
  return low;
}

int64_t ListReader::last_position() const {
  for (int64_t slot = list_.last - 1; slot >= list_.first;
       slot = (slot >> page_log2_ << page_log2_) - 1)
    if (part_.page->position < 0 || page_of(slot) != nullptr) return position_at(slot);
  return -1;
}

Range ListReader::reachable(int64_t first_query, int64_t last_query, int64_t window_left) const {
  Range range = slots();
  if (part_.from_lag != PartView::kNoFrom)
    range.last = std::max(range.first, first_at(last_query + 1));
  if (window_left >= 0)
    range.first = std::min(range.last, std::max(range.first, first_at(first_query - window_left)));
  return range;
}

bool ListReader::is_plain_from(int64_t last, int64_t first_query) const {
  if (part_.page->position >= 0 || part_.page->until >= 0) return false;
  if (part_.from_lag == PartView::kNoFrom) return true;
  if (last < list_.settled) return implicit_position(last) <= first_query;
  return part_.from_tile == 1 && implicit_position(last) + part_.from_lag <= first_query;
}

int32_t ListReader::from_of_tile(int64_t slot) const {
  const int64_t last = (slot / part_.from_tile + 1) * part_.from_tile - 1;
  if (last >= list_.last) return kForever;  // the tile is not complete
  return static_cast<int32_t>(position_at(last)) + part_.from_lag;
}

void ListReader::intervals(const Run& run, int32_t* position, int32_t* from, int32_t* until) const {
  const PageLayout& page = *part_.page;
  const auto ints = [&](int column) {
    return reinterpret_cast<const int32_t*>(run.page +
                                            page.columns[static_cast<size_t>(column)].offset) +
           run.row;
  };
  if (page.position >= 0)
    std::copy_n(ints(page.position), run.rows, position);
  else
    for (int i = 0; i < run.rows; ++i)
      position[i] = static_cast<int32_t>(run.slot + i + part_.position_offset);
  if (page.until >= 0) {
    const int32_t* column = ints(page.until);
    for (int i = 0; i < run.rows; ++i) until[i] = column[i] < list_.grace ? column[i] : kForever;
  } else {
    std::fill_n(until, run.rows, kForever);
  }
  for (int i = 0; i < run.rows; ++i) {
    const int64_t slot = run.slot + i;
    if (part_.from_lag == PartView::kNoFrom)
      from[i] = PartView::kNoFrom;
    else if (slot < list_.settled || part_.from_tile == 1)
      from[i] = position[i] + (slot < list_.settled ? 0 : part_.from_lag);
    else
      from[i] = from_of_tile(slot);
  }
}

void ListReader::column(const Run& run, int column, float* to) const {
  const ColumnLayout& layout = part_.page->columns[static_cast<size_t>(column)];
  KVLAB_REQUIRE(layout.dtype == Dtype::f32, "E_UNSUPPORTED", "cpu engine: column ", layout.name,
                " scales rows but is ", name_of(layout.dtype), "; it must be float32");
  std::copy_n(reinterpret_cast<const float*>(run.page + layout.offset) + run.row, run.rows, to);
}

}  // namespace kvlab
