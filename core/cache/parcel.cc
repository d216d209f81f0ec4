#include "core/cache/parcel.h"

#include <algorithm>
#include <cstring>

namespace kvlab::cache {
namespace {

constexpr std::array<std::string_view, 3> kPartNames{"first", "past", "recent"};

/// Calls visit(bytes in the page, bytes in the parcel, count) for runs of rows in one page.
template <class Visit>
void each_run(const PageLayout& page, const ListView& list, const Piece& piece,
              std::span<const int64_t> slots, Visit&& visit) {
  const auto rows = static_cast<size_t>(piece.per_rows);
  const int64_t unit_bytes = piece.bytes_of(std::ssize(slots)) / piece.units;
  for (size_t begin = 0; begin < slots.size();) {
    const int64_t slot = slots[begin], k = slot / page.page_tokens;
    size_t end = begin + rows;
    while (end < slots.size() && slots[end] == slots[end - 1] + 1 &&
           slots[end] / page.page_tokens == k)
      end += rows;
    const int64_t at = piece.offset + slot % page.page_tokens / piece.per_rows * piece.bytes;
    const auto done = static_cast<int64_t>(begin / rows) * piece.bytes;
    const auto count = static_cast<int64_t>((end - begin) / rows) * piece.bytes;
    begin = end;
    u8* const base = list.page(k);
    for (int unit = 0; base != nullptr && unit < piece.units; ++unit)
      visit(base + at + unit * piece.unit_stride, unit * unit_bytes + done,
            static_cast<size_t>(count));
  }
}

Json describe(const PageLayout& page, const LayerPlan& plan, Dtype run_dtype) {
  Json streams = Json::array(), columns = Json::array();
  for (const StreamLayout& stream : page.streams) {
    streams.push_back({{"name", stream.name},
                       {"units", stream.units},
                       {"width", stream.width},
                       {"codec", stream.codec->name},
                       {"params", stream.params},
                       {"rotate_hadamard", stream.rotate_hadamard}});
    const Dtype dtype = std::ranges::find(plan.streams, stream.name, &Stream::page_name)->dtype;
    if (dtype != run_dtype) streams.back()["dtype"] = name_of(dtype);
  }
  for (const ColumnLayout& column : page.columns)
    columns.push_back({{"name", column.name}, {"dtype", name_of(column.dtype)}});
  return {{"streams", std::move(streams)}, {"columns", std::move(columns)}};
}

}  // namespace

std::vector<Piece> pieces_of(const PageLayout& page) {
  std::vector<Piece> pieces;
  for (const StreamLayout& stream : page.streams)
    for (size_t p = 0; p < stream.planes.size(); ++p) {
      const Encoded::Plane& plane = stream.format.planes[p];
      const bool by_tile = plane.tile_bytes > 0;
      pieces.push_back({.name = "stream/" + stream.name + "/" + std::to_string(p),
                        .offset = stream.planes[p].offset,
                        .unit_stride = stream.planes[p].unit_stride,
                        .units = stream.units,
                        .bytes = by_tile ? plane.tile_bytes : plane.row_bytes,
                        .per_rows = by_tile ? stream.format.tile_tokens : 1});
    }
  for (const ColumnLayout& column : page.columns)
    pieces.push_back({.name = "column/" + column.name,
                      .dtype = column.dtype,
                      .offset = column.offset,
                      .bytes = size_of(column.dtype)});
  return pieces;
}

std::string tensor_name(int group, Part part, const Piece& piece) {
  return std::to_string(group) + "/" + std::string(kPartNames[index_of(part)]) + "/" + piece.name;
}

void copy_out(const PageLayout& page, const ListView& list, const Piece& piece,
              std::span<const int64_t> slots, u8* to) {
  each_run(page, list, piece, slots, [&](const u8* in_page, int64_t at, size_t count) {
    std::memcpy(to + at, in_page, count);
  });
}

void copy_in(const PageLayout& page, const ListView& list, const Piece& piece,
             std::span<const int64_t> slots, const u8* from) {
  each_run(page, list, piece, slots,
           [&](u8* in_page, int64_t at, size_t count) { std::memcpy(in_page, from + at, count); });
}

Json layout_of(const Layers& layers) {
  Json groups = Json::array();
  for (size_t g = 0; g < layers.groups.size(); ++g) {
    const Group& group = layers.groups[g];
    const LayerPlan& plan = layers.plans[static_cast<size_t>(group.layer)];
    Json one{{"layer", group.layer},
             {"selected", static_cast<int>(g) == plan.main},
             {"lists", group.lists},
             {"first", group.first},
             {"tile", group.tile}};
    for (const Part part : kTravelling)
      one[std::string(kPartNames[index_of(part)])] =
          describe(layers.pages[g].part[index_of(part)], plan, layers.run_dtype);
    groups.push_back(std::move(one));
  }
  return groups;
}

}  // namespace kvlab::cache
