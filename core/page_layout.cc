#include "core/page_layout.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr int64_t kPlaneAlignment = 64, kUnitAlignment = 16;

bool is_power_of_two(int value) {
  return value > 0 && std::has_single_bit(static_cast<unsigned>(value));
}

int64_t unit_bytes(const Encoded& format, const Encoded::Plane& plane, int64_t rows) {
  return plane.tile_bytes > 0 ? rows / format.tile_tokens * plane.tile_bytes
                              : rows * plane.row_bytes;
}

}  // namespace

PageLayout make_page_layout(std::vector<StreamLayout> streams, const std::vector<Column>& columns,
                            int page_tokens) {
  PageLayout page;
  page.page_tokens = page_tokens;
  for (const StreamLayout& stream : streams) {
    const int tile = stream.format.tile_tokens;
    KVLAB_REQUIRE(is_power_of_two(tile), "E_CONFIG", "cache: codec of stream `", stream.name,
                  "` has tiles of ", tile, " rows; a power of two divides every page");
    page.tile_tokens = std::max(page.tile_tokens, tile);
  }
  KVLAB_REQUIRE(is_power_of_two(page_tokens), "E_CONFIG", "cache: page_tokens ", page_tokens,
                " is no power of two");
  page.page_tokens = std::max(page.page_tokens, page.tile_tokens);
  int64_t offset = 0;
  for (StreamLayout& stream : streams) {
    stream.planes.clear();
    for (const Encoded::Plane& plane : stream.format.planes) {
      const int64_t stride =
          round_up(unit_bytes(stream.format, plane, page.page_tokens), kUnitAlignment);
      stream.planes.push_back({offset, stride});
      offset = round_up(offset + stride * stream.units, kPlaneAlignment);
    }
  }
  for (const Column& column : columns) {
    if (column.name == kPositionColumn) page.position = static_cast<int>(page.columns.size());
    if (column.name == kUntilColumn) page.until = static_cast<int>(page.columns.size());
    page.columns.push_back({column.name, column.dtype, offset});
    offset = round_up(offset + page.page_tokens * size_of(column.dtype), kUnitAlignment);
  }
  page.streams = std::move(streams);
  page.bytes = round_up(offset, kPlaneAlignment);
  return page;
}

RowBytes row_bytes(const PageLayout& page, Range slots) {
  RowBytes bytes;
  if (slots.size() <= 0) return bytes;
  for (const StreamLayout& stream : page.streams) {
    const int64_t tile = stream.format.tile_tokens;
    const int64_t tiles = (slots.last + tile - 1) / tile - slots.first / tile;
    for (const Encoded::Plane& plane : stream.format.planes) {
      const int64_t size =
          stream.units * (slots.size() * int64_t{plane.row_bytes} + tiles * plane.tile_bytes);
      (plane.metadata ? bytes.metadata : bytes.payload) += size;
    }
  }
  for (const ColumnLayout& column : page.columns)
    bytes.metadata += slots.size() * size_of(column.dtype);
  return bytes;
}

bool is_row_wise(const PageLayout& page) {
  return page.tile_tokens == 1 &&
         std::ranges::all_of(page.streams, [](const auto& s) { return s.format.row_wise; });
}

u8* column_at(const PageLayout& page, const ListView& list, int column, int64_t slot) {
  u8* const base = list.page(slot / page.page_tokens);
  const ColumnLayout& layout = page.columns[static_cast<size_t>(column)];
  return base == nullptr ? nullptr
                         : base + layout.offset + slot % page.page_tokens * size_of(layout.dtype);
}

}  // namespace kvlab
