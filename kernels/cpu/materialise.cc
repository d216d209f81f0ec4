#include "kernels/cpu/materialise.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "kernels/codecs.h"
#include "kernels/cpu/encode.h"
#include "kernels/cpu/part_reader.h"

namespace kvlab {
namespace {

constexpr int64_t kRoundBytes = int64_t{32} << 20;  // of made pages; at least one page of each list

StreamLayout float_stream(const std::string& name, int units, int width) {
  const Codec& codec = float32_codec();
  return {.name = name,
          .units = units,
          .width = width,
          .codec = &codec,
          .params = Json::object(),
          .format = codec.layout(width, Json::object())};
}

std::vector<Column> columns_of(const PageLayout& page) {
  std::vector<Column> columns;
  for (const ColumnLayout& column : page.columns) columns.push_back({column.name, column.dtype});
  return columns;
}

bool reads(const Layout& layout, const std::string& stream) {
  return layout.key.stream == stream ||
         std::ranges::any_of(layout.values,
                             [&](const Operand& value) { return value.stream == stream; });
}

}  // namespace

bool is_materialised(const Segment& segment) {
  if (segment.layout->rebuilds) return true;
  return std::ranges::any_of(segment.rows.page->streams, [&](const StreamLayout& stream) {
    return !stream.codec->kernels && reads(*segment.layout, stream.name);
  });
}

/// The live slots of a list in a round, in order, after `halo` predecessors (slot -1: there is
/// none).
struct MaterialisedRows::Rows {
  int list = 0, halo = 0;
  std::vector<int64_t> slots{};
  int64_t size() const { return std::ssize(slots); }
};

MaterialisedRows::MaterialisedRows(const AttendCall& call, const Segment& segment)
    : call_(call), source_(segment) {
  plan_pages();
  plan_rounds();
}

void MaterialisedRows::plan_pages() {
  const PageLayout& page = *source_.rows.page;
  const Layer& shape = *call_.shape;
  std::vector<StreamLayout> streams;
  if (source_.layout->rebuilds) {
    KVLAB_REQUIRE(source_.project != nullptr, "E_UNSUPPORTED", "cpu engine: layer ", call_.layer,
                  " rebuilds keys and values, but no projection was handed over");
    const int lists = source_.rows.lists_per_sequence;
    KVLAB_REQUIRE(shape.num_kv_heads % lists == 0, "E_SHAPE", "cpu engine: ", lists,
                  " lists of a sequence do not divide ", shape.num_kv_heads, " kv heads");
    streams.push_back(float_stream("key", shape.num_kv_heads / lists, shape.head_dim));
    streams.push_back(float_stream("value", shape.num_kv_heads / lists, shape.value_dim));
    layout_.key = {.stream = "key", .rotate = true};
    layout_.values = {{.stream = "value"}};
    kernel_ = "rebuild";
    reason_ = "keys and values rebuilt by the method, then attended as float32";
  } else {
    layout_ = *source_.layout;
    for (const StreamLayout& stream : page.streams)
      if (reads(layout_, stream.name)) {
        streams.push_back(float_stream(stream.name, stream.units, stream.width));
        if (stream.codec->kernels) continue;
        kernel_ = stream.codec->name;
        reason_ = "codec " + stream.codec->name + " has no kernels: rows are decoded to float32";
      }
  }
  pages_ = make_page_layout(std::move(streams), columns_of(page), page.page_tokens);
}

void MaterialisedRows::plan_rounds() {
  const int64_t aligned = std::max(source_.rows.from_tile, pages_.page_tokens);
  const int64_t lists = std::max<int64_t>(1, std::ssize(source_.rows.lists));
  const int64_t pages = std::max<int64_t>(1, kRoundBytes / lists / pages_.bytes);
  step_ = std::max<int64_t>(1, pages * pages_.page_tokens / aligned) * aligned;
  int64_t first = kForever, last = 0;
  for (int list = 0; list < std::ssize(source_.rows.lists); ++list) {
    const Range queries = call_.rows.rows_of(list / source_.rows.lists_per_sequence);
    Range slots{};
    if (queries.size() > 0) {
      const auto at = [&](int64_t row) { return call_.rows.positions[static_cast<size_t>(row)]; };
      slots = ListReader(source_.rows, list)
                  .reachable(at(queries.first), at(queries.last - 1), call_.shape->window_left);
    }
    wanted_.push_back(slots);
    if (slots.size() <= 0) continue;
    first = std::min(first, slots.first / step_);
    last = std::max(last, (slots.last - 1) / step_ + 1);
  }
  first_round_ = std::min(first, last);
  last_round_ = last;
}

Segment MaterialisedRows::make(int64_t round, CpuResources& resources) {
  const int64_t tokens = pages_.page_tokens;
  made_ = source_.rows;
  made_.page = &pages_;
  ids_.assign(wanted_.size(), {});
  for (size_t l = 0; l < wanted_.size(); ++l) {
    ListView& list = made_.lists[l];
    const ListView& source = source_.rows.lists[l];
    // Whole steps but for the list's ends: what an interval of a tile needs lies in the round.
    const int64_t start = (first_round_ + round) * step_;
    list.first = std::max(source.first, start);
    list.last = std::min(source.last, start + step_);
    if (list.first >= list.last || wanted_[l].first >= list.last || wanted_[l].last <= list.first) {
      list.first = list.last = 0;
      continue;
    }
    list.first_page = list.first / tokens;
    const int64_t pages = (list.last - 1) / tokens - list.first_page + 1;
    list.stride = pages_.bytes;
    list.base = resources.shared.take<u8>(pages * pages_.bytes);
    ids_[l].resize(static_cast<size_t>(pages));
    std::iota(ids_[l].begin(), ids_[l].end(), 0);
    for (int64_t k = 0; k < pages; ++k)
      if (source.page(list.first_page + k) == nullptr) ids_[l][static_cast<size_t>(k)] = -1;
    list.ids = ids_[l].data();
    fill_list(static_cast<int>(l), resources);
  }
  return {.rows = made_,
          .layout = &layout_,
          .query_positions = source_.query_positions,
          .narrowed = source_.narrowed};
}

void MaterialisedRows::fill_list(int list, CpuResources& resources) {
  const Scratch::Mark mark(resources.shared);
  const ListReader reader(source_.rows, list);
  const ListView& made = made_.lists[static_cast<size_t>(list)];
  Rows rows{.list = list, .halo = source_.layout->halo};
  for (int64_t slot = made.first - rows.halo; slot < made.first; ++slot)
    rows.slots.push_back(slot >= reader.slots().first ? slot : -1);
  for (int64_t slot = made.first; slot < made.last; ++slot)
    if (reader.page_of(slot) != nullptr) rows.slots.push_back(slot);
  copy_columns(rows);
  if (source_.layout->rebuilds) return rebuild(rows, resources);
  for (size_t i = 0; i < pages_.streams.size(); ++i) {
    const Scratch::Mark one(resources.shared);
    const int stream = source_.rows.page->stream(pages_.streams[i].name);
    const int lists = source_.rows.lists_per_sequence;
    store(static_cast<int>(i), rows, decode(stream, rows, resources),
          int64_t{list % lists} * pages_.streams[i].units);
  }
}

void MaterialisedRows::copy_columns(const Rows& rows) {
  const ListView& made = made_.lists[static_cast<size_t>(rows.list)];
  const ListView& source = source_.rows.lists[static_cast<size_t>(rows.list)];
  for (size_t c = 0; c < pages_.columns.size(); ++c) {
    const int64_t bytes = size_of(pages_.columns[c].dtype);
    for (const int64_t slot : std::span(rows.slots).subspan(static_cast<size_t>(rows.halo)))
      std::memcpy(column_at(pages_, made, static_cast<int>(c), slot),
                  column_at(*source_.rows.page, source, static_cast<int>(c), slot),
                  static_cast<size_t>(bytes));
    bytes_read_ += (rows.size() - rows.halo) * bytes;
  }
}

/// float32 [rows, units of all lists, width]; units of other lists and rows that do not exist are
/// 0.
TensorView MaterialisedRows::decode(int stream, const Rows& rows, CpuResources& resources) {
  const StreamLayout& layout = source_.rows.page->streams[static_cast<size_t>(stream)];
  const int64_t units = int64_t{layout.units} * source_.rows.lists_per_sequence;
  const int64_t count = rows.size() * units * layout.width;
  float* x = resources.shared.take<float>(count);
  std::fill_n(x, count, 0.0f);
  std::vector<Placement> where;
  for (size_t i = 0; i < rows.slots.size(); ++i)
    if (rows.slots[i] >= 0) where.push_back({static_cast<int32_t>(i), rows.list, rows.slots[i]});
  const TensorView view = dense_view(x, Dtype::f32, {rows.size(), units, layout.width});
  kvlab::decode(resources, {.from = &source_.rows, .stream = stream, .rows = view, .where = where});
  const int64_t tile_bytes =
      layout.format.payload_bytes_per_tile() + layout.format.metadata_bytes_per_tile();
  bytes_read_ += std::ssize(where) * layout.units * tile_bytes / layout.format.tile_tokens;
  return view;
}

TensorView MaterialisedRows::gather_column(int column, const Rows& rows, Scratch& scratch) const {
  const PageLayout& page = *source_.rows.page;
  const Dtype dtype = page.columns[static_cast<size_t>(column)].dtype;
  const int64_t bytes = size_of(dtype);
  u8* to = scratch.take<u8>(rows.size() * bytes);
  std::memset(to, 0, static_cast<size_t>(rows.size() * bytes));
  for (size_t i = 0; i < rows.slots.size(); ++i) {
    if (rows.slots[i] < 0) continue;
    std::memcpy(
        to + static_cast<int64_t>(i) * bytes,
        column_at(page, source_.rows.lists[static_cast<size_t>(rows.list)], column, rows.slots[i]),
        static_cast<size_t>(bytes));
  }
  return dense_view(to, dtype, {rows.size()});
}

void MaterialisedRows::rebuild(const Rows& rows, CpuResources& resources) {
  const Layer& shape = *call_.shape;
  const Layout& layout = source_.stored == nullptr ? *source_.layout : *source_.stored;
  Scratch& scratch = resources.shared;
  std::vector<TensorView> streams, columns;
  for (const StreamSpec& spec : layout.streams) {
    const int stream = source_.rows.page->stream(spec.name);
    KVLAB_REQUIRE(stream >= 0, "E_SHAPE", "cpu engine: layer ", call_.layer,
                  " rebuilds from stream `", spec.name, "`, which the page does not have");
    streams.push_back(decode(stream, rows, resources));
  }
  for (const Column& spec : layout.columns) {
    const int column = source_.rows.page->column(spec.name);
    KVLAB_REQUIRE(column >= 0, "E_SHAPE", "cpu engine: layer ", call_.layer,
                  " rebuilds from column `", spec.name, "`, which the page does not have");
    columns.push_back(gather_column(column, rows, scratch));
  }
  const ListReader reader(source_.rows, rows.list);
  std::vector<int32_t> positions;
  for (const int64_t slot : rows.slots)
    positions.push_back(slot < 0 ? -1 : static_cast<int32_t>(reader.position_of(slot)));
  const int64_t n = rows.size() - rows.halo;
  float* keys = scratch.take<float>(n * shape.num_kv_heads * shape.head_dim);
  float* values = scratch.take<float>(n * shape.num_kv_heads * shape.value_dim);
  const int lists = source_.rows.lists_per_sequence;
  const RebuildCall call{
      .layer = call_.layer,
      .sequence = call_.rows.sequences[static_cast<size_t>(rows.list / lists)],
      .streams = streams,
      .columns = columns,
      .positions = positions,
      .halo = rows.halo,
      .keys = dense_view(keys, Dtype::f32, {n, shape.num_kv_heads, shape.head_dim}),
      .values = dense_view(values, Dtype::f32, {n, shape.num_kv_heads, shape.value_dim})};
  source_.project->rebuild(call);
  const int64_t first_unit = int64_t{rows.list % lists} * (shape.num_kv_heads / lists);
  Rows wanted = rows;
  wanted.slots.erase(wanted.slots.begin(), wanted.slots.begin() + rows.halo);
  store(0, wanted, call.keys, first_unit);
  store(1, wanted, call.values, first_unit);
}

/// x [rows, units of all lists, width] to the pages of a list.
void MaterialisedRows::store(int stream, const Rows& rows, const TensorView& x,
                             int64_t first_unit) {
  const StreamLayout& layout = pages_.streams[static_cast<size_t>(stream)];
  const StreamLayout::Plane& plane = layout.planes.front();
  const ListView& made = made_.lists[static_cast<size_t>(rows.list)];
  for (size_t i = 0; i < rows.slots.size(); ++i) {
    const int64_t slot = rows.slots[i], row = slot % pages_.page_tokens;
    u8* page = made.page(slot / pages_.page_tokens);
    for (int unit = 0; unit < layout.units; ++unit)
      std::memcpy(page + plane.offset + unit * plane.unit_stride + row * 4 * layout.width,
                  x.at(static_cast<int64_t>(i)) + (first_unit + unit) * layout.width * 4,
                  static_cast<size_t>(4 * layout.width));
  }
}

}  // namespace kvlab
