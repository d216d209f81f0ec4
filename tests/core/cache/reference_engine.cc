#include "tests/core/cache/reference_engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>
#include <stdexcept>

#include "core/types.h"

namespace kvlab::test {
namespace {

template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream text;
  text << "reference engine: ";
  (text << ... << parts);
  throw std::logic_error(text.str());
}

using Features = std::vector<float>;

/// The bytes of one tile of one unit: by row, row 0 of the tile first, or the tile's own.
struct TileBytes {
  const StreamLayout* stream = nullptr;
  std::vector<u8*> planes{};
  float* row(int plane, int64_t r) const { return reinterpret_cast<float*>(row_bytes(plane, r)); }
  u8* row_bytes(int plane, int64_t r) const {
    return planes[at(plane)] + r * stream->format.planes[at(plane)].row_bytes;
  }
  u8* tile(int plane) const { return planes[at(plane)]; }
};

TileBytes tile_of(const PageLayout& page, const StreamLayout& stream, const ListView& list,
                  int unit, int64_t tile) {
  const int64_t rows = stream.format.tile_tokens, slot = tile * rows;
  u8* const base = list.page(slot / page.page_tokens);
  require(base != nullptr, "tile ", tile, " lies in a hole");
  TileBytes bytes{.stream = &stream};
  for (size_t p = 0; p < stream.planes.size(); ++p) {
    const Encoded::Plane& plane = stream.format.planes[p];
    const int64_t inside = slot % page.page_tokens;
    bytes.planes.push_back(base + stream.planes[p].offset + unit * stream.planes[p].unit_stride +
                           inside * plane.row_bytes + inside / rows * plane.tile_bytes);
  }
  return bytes;
}

// ---- codecs ----

struct Range1 {
  float min = 0, step = 0;
};
Range1 range_of(const Features& values, float levels) {
  const auto [low, high] = std::ranges::minmax_element(values);
  return {*low, (*high - *low) / levels};
}
u8 code_of(float x, Range1 r) {
  return r.step == 0 ? u8{0} : static_cast<u8>(std::lround((x - r.min) / r.step));
}

Features column_of(const std::vector<Features>& rows, size_t c) {
  Features column;
  for (const Features& row : rows) column.push_back(row[c]);
  return column;
}

void encode_tile(const TileBytes& to, const std::vector<Features>& rows) {
  const std::string& name = to.stream->codec->name;
  const auto width = static_cast<size_t>(to.stream->width);
  for (size_t r = 0; r < rows.size(); ++r) {
    if (name == "float32")
      std::memcpy(to.row(0, static_cast<int64_t>(r)), rows[r].data(), width * 4);
    if (name == "coarse") {
      const Range1 range = range_of(rows[r], 15);
      std::memcpy(to.row_bytes(1, static_cast<int64_t>(r)), &range, 8);
      for (size_t c = 0; c < width; ++c)
        to.row_bytes(0, static_cast<int64_t>(r))[c] = code_of(rows[r][c], range);
    }
    for (size_t c = 0; c < width; ++c) {
      if (name == "exact4") std::memcpy(to.tile(0) + (c * 4 + r) * 4, &rows[r][c], 4);
      if (name != "column4" && name != "mixed8") continue;
      const Range1 range = range_of(column_of(rows, c), name == "column4" ? 7.0F : 15.0F);
      std::memcpy(to.tile(1) + c * 8, &range, 8);
      (name == "column4" ? to.tile(0) + r * width : to.row_bytes(0, static_cast<int64_t>(r)))[c] =
          code_of(rows[r][c], range);
    }
  }
}

Features decode_row(const TileBytes& from, int64_t r) {
  const std::string& name = from.stream->codec->name;
  const auto width = static_cast<size_t>(from.stream->width);
  Features row(width);
  for (size_t c = 0; c < width; ++c) {
    Range1 range;
    if (name == "float32") row[c] = from.row(0, r)[c];
    if (name == "exact4") std::memcpy(&row[c], from.tile(0) + (c * 4 + at(r)) * 4, 4);
    if (name == "coarse") {
      std::memcpy(&range, from.row_bytes(1, r), 8);
      row[c] = range.min + range.step * static_cast<float>(from.row_bytes(0, r)[c]);
    }
    if (name == "column4" || name == "mixed8") {
      std::memcpy(&range, from.tile(1) + c * 8, 8);
      const u8 code = name == "column4" ? from.tile(0)[at(r) * width + c] : from.row_bytes(0, r)[c];
      row[c] = range.min + range.step * static_cast<float>(code);
    }
  }
  return row;
}

Features decode_slot(const PageLayout& page, const StreamLayout& stream, const ListView& list,
                     int unit, int64_t slot) {
  const int64_t tile = stream.format.tile_tokens;
  return decode_row(tile_of(page, stream, list, unit, slot / tile), slot % tile);
}

// ---- views ----

const ListView& list_of(const PartView& view, int64_t list) {
  require(list >= 0 && list < std::ssize(view.lists), "list ", list, " of ", view.lists.size());
  const ListView& out = view.lists[at(list)];
  require(out.first <= out.last, "list ", list, " ends before it begins");
  return out;
}

void check_slot(const PartView& view, int64_t list, int64_t slot) {
  const ListView& one = list_of(view, list);
  require(slot >= one.first && slot < one.last, "slot ", slot, " outside [", one.first, ", ",
          one.last, ") of list ", list);
  require(one.page(slot / view.page->page_tokens) != nullptr, "slot ", slot, " of list ", list,
          " lies in a hole");
}

int32_t column_i32(const PageLayout& page, const ListView& list, int column, int64_t slot) {
  int32_t value = 0;
  std::memcpy(&value,
              list.page(slot / page.page_tokens) + page.columns[at(column)].offset +
                  slot % page.page_tokens * 4,
              4);
  return value;
}

int32_t position_of(const PartView& view, const ListView& list, int64_t slot) {
  return view.page->position < 0 ? static_cast<int32_t>(slot + view.position_offset)
                                 : column_i32(*view.page, list, view.page->position, slot);
}

bool is_hole(const PartView& view, const ListView& list, int64_t slot) {
  return list.page(slot / view.page->page_tokens) == nullptr;
}

/// [from, until] of a slot.
std::pair<int64_t, int64_t> interval(const PartView& view, const ListView& list, int64_t slot) {
  int64_t from = position_of(view, list, slot);
  if (view.from_lag == PartView::kNoFrom) {
    from = std::numeric_limits<int64_t>::min();
  } else if (slot >= list.settled) {
    const int64_t last = slot / view.from_tile * view.from_tile + view.from_tile - 1;
    require(last < list.last, "the tile of slot ", slot, " is not whole");
    from = int64_t{position_of(view, list, last)} + view.from_lag;
  }
  int64_t until =
      view.page->until < 0 ? kForever : column_i32(*view.page, list, view.page->until, slot);
  if (until >= list.grace) until = kForever;
  return {from, until};
}

float float_at(const TensorView& t, int64_t i, int64_t j, int64_t k) {
  require(t.dtype == Dtype::f32, "tensors of the reference engine are float32");
  return t.as<float>()[i * t.stride(0) + j * t.stride(1) + k * t.stride(2)];
}

Features features_at(const TensorView& t, int64_t i, int64_t j) {
  Features out;
  for (int64_t k = 0; k < t.size(2); ++k) out.push_back(float_at(t, i, j, k));
  return out;
}

void put(const TensorView& t, int64_t i, int64_t j, const Features& values) {
  require(std::ssize(values) == t.size(2), "width");
  for (int64_t k = 0; k < t.size(2); ++k)
    t.as<float>()[i * t.stride(0) + j * t.stride(1) + k * t.stride(2)] = values[at(k)];
}

/// Calls visit(tile of placements) for placements that come in whole tiles.
template <class Visit>
void each_tile(const PartView& view, const StreamLayout& stream, std::span<const Placement> where,
               Visit&& visit) {
  const auto tile = static_cast<size_t>(stream.format.tile_tokens);
  require(where.size() % tile == 0, where.size(), " placements are not whole tiles of ", tile);
  for (size_t i = 0; i < where.size(); i += tile) {
    for (size_t r = 0; r < tile; ++r) {
      check_slot(view, where[i + r].list, where[i + r].slot);
      require(where[i + r].list == where[i].list &&
                  where[i + r].slot == where[i].slot + static_cast<int64_t>(r) &&
                  where[i].slot % static_cast<int64_t>(tile) == 0,
              "placements of a tile do not come together");
    }
    visit(where.subspan(i, tile));
  }
}

}  // namespace

void register_test_codecs(Registry& registry) {
  const auto add = [&](const std::string& name, auto layout) {
    registry.add(Codec{.name = std::move(name),
                       .bound = "test",
                       .schema = "{}",
                       .layout = [layout](int width, const Json&) { return layout(width); }});
  };
  add("float32", [](int w) {
    return Encoded{.planes = {{.row_bytes = 4 * w}},
                   .exact = {Dtype::f32, Dtype::f16, Dtype::bf16}};
  });
  add("coarse", [](int w) {
    return Encoded{.planes = {{.row_bytes = w}, {.row_bytes = 8, .metadata = true}}};
  });
  add("column4", [](int w) {
    return Encoded{.planes = {{.tile_bytes = 4 * w}, {.tile_bytes = 8 * w, .metadata = true}},
                   .tile_tokens = 4,
                   .row_wise = false};
  });
  add("mixed8", [](int w) {
    return Encoded{.planes = {{.row_bytes = w}, {.tile_bytes = 8 * w, .metadata = true}},
                   .tile_tokens = 8,
                   .row_wise = false};
  });
  add("exact4", [](int w) {
    return Encoded{.planes = {{.tile_bytes = 16 * w}},
                   .tile_tokens = 4,
                   .row_wise = false,
                   .exact = {Dtype::f32}};
  });
}

void ReferenceEngine::encode(const EncodeCall& call) {
  const PartView& view = *call.to;
  const StreamLayout& stream = view.page->streams.at(at(call.stream));
  require(call.rows.dims == 3 && call.rows.size(1) == stream.units * view.lists_per_sequence &&
              call.rows.size(2) == stream.width,
          "rows of stream ", stream.name, " have the wrong shape");
  each_tile(view, stream, call.where, [&](std::span<const Placement> tile) {
    const int list = tile[0].list, first_unit = list % view.lists_per_sequence * stream.units;
    for (int unit = 0; unit < stream.units; ++unit) {
      std::vector<Features> rows;
      for (const Placement& one : tile)
        rows.push_back(features_at(call.rows, one.row, first_unit + unit));
      const TileBytes bytes = tile_of(*view.page, stream, view.lists[at(list)], unit,
                                      tile[0].slot / stream.format.tile_tokens);
      encode_tile(bytes, rows);
      if (!call.as_stored) continue;
      for (size_t r = 0; r < tile.size(); ++r)
        put(call.as_stored, tile[r].row, first_unit + unit,
            decode_row(bytes, static_cast<int64_t>(r)));
    }
  });
}

void ReferenceEngine::decode(const DecodeCall& call) {
  const PartView& view = *call.from;
  const StreamLayout& stream = view.page->streams.at(at(call.stream));
  for (const Placement& one : call.where) {
    check_slot(view, one.list, one.slot);
    for (int unit = 0; unit < stream.units; ++unit)
      put(call.rows, one.row, one.list % view.lists_per_sequence * stream.units + unit,
          decode_slot(*view.page, stream, view.lists[at(one.list)], unit, one.slot));
  }
}

void ReferenceEngine::move(const MoveCall& call) {
  const PartView &from = *call.from, &to = *call.to;
  require(from.lists.size() == to.lists.size(), "parts of different lists");
  rows_moved += std::ssize(call.moves);
  const bool inside = from.page == to.page;
  int64_t last_to = -1;
  int32_t last_list = -1;
  const auto group = static_cast<size_t>(to.page->tile_tokens);
  require(call.moves.size() % group == 0, "moves are not whole tiles");
  for (size_t i = 0; i < call.moves.size(); i += group) {
    for (size_t r = 0; r < group; ++r) {
      const Move& one = call.moves[i + r];
      check_slot(from, one.list, one.from);
      check_slot(to, one.list, one.to);
      require(!inside || one.to < one.from, "a move inside a part goes up");
      require(one.list != last_list || one.to > last_to, "moves are out of order");
      require(one.list == call.moves[i].list &&
                  one.to == call.moves[i].to + static_cast<int64_t>(r) &&
                  call.moves[i].to % static_cast<int64_t>(group) == 0,
              "moves of a tile do not come together");
      require(position_of(from, from.lists[at(one.list)], one.from) >= 0, "position");
      last_to = one.to;
      last_list = one.list;
    }
    const int list = call.moves[i].list;
    const ListView &source = from.lists[at(list)], &target = to.lists[at(list)];
    for (const StreamLayout& stream : to.page->streams) {
      const int index = from.page->stream(stream.name);
      require(index >= 0, "stream ", stream.name, " is not in the part rows come from");
      const StreamLayout& old = from.page->streams[at(index)];
      const auto tile = static_cast<size_t>(stream.format.tile_tokens);
      for (int unit = 0; unit < stream.units; ++unit)
        for (size_t first = i; first < i + group; first += tile) {
          const TileBytes bytes = tile_of(*to.page, stream, target, unit,
                                          call.moves[first].to / static_cast<int64_t>(tile));
          if (inside) {  // byte for byte, whole tiles
            const TileBytes was = tile_of(*from.page, old, source, unit,
                                          call.moves[first].from / static_cast<int64_t>(tile));
            require(call.moves[first].from % static_cast<int64_t>(tile) == 0, "a tile is cut");
            for (size_t p = 0; p < bytes.planes.size(); ++p) {
              const Encoded::Plane& plane = stream.format.planes[p];
              std::memmove(bytes.planes[p], was.planes[p],
                           at(plane.row_bytes) * tile + at(plane.tile_bytes));
            }
            continue;
          }
          std::vector<Features> rows;
          for (size_t r = first; r < first + tile; ++r)
            rows.push_back(decode_slot(*from.page, old, source, unit, call.moves[r].from));
          encode_tile(bytes, rows);
        }
    }
    for (const ColumnLayout& column : to.page->columns) {
      const int index = from.page->column(column.name);
      require(index >= 0, "column ", column.name, " is not in the part rows come from");
      const int64_t size = size_of(column.dtype);
      for (size_t r = i; r < i + group; ++r)
        std::memmove(target.page(call.moves[r].to / to.page->page_tokens) + column.offset +
                         call.moves[r].to % to.page->page_tokens * size,
                     source.page(call.moves[r].from / from.page->page_tokens) +
                         from.page->columns[at(index)].offset +
                         call.moves[r].from % from.page->page_tokens * size,
                     at(size));
    }
  }
}

// ---- plans: what they were made for must be what they are used for ----

namespace {

struct ReferencePlan : Plan {
  std::vector<int64_t> made_for{};
};

std::vector<int64_t> key_of(const Layer& shape, const RowMap& rows,
                            std::span<const Segment> segments) {
  std::vector<int64_t> key{shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.value_dim,
                           shape.window_left};
  for (const SeqId id : rows.sequences) key.push_back(static_cast<int64_t>(id));
  key.insert(key.end(), rows.indptr.begin(), rows.indptr.end());
  key.insert(key.end(), rows.positions.begin(), rows.positions.end());
  for (const Segment& segment : segments) {
    key.insert(key.end(), {segment.rows.page->page_tokens, segment.rows.page->tile_tokens,
                           segment.rows.lists_per_sequence, segment.rows.position_offset,
                           segment.rows.from_lag, segment.rows.from_tile});
    for (const ListView& list : segment.rows.lists) {
      key.insert(key.end(), {list.first, list.last, list.settled, list.grace});
      // A planner may look at explicit positions, to trim windows.
      for (int64_t slot = list.first; segment.rows.page->position >= 0 && slot < list.last; ++slot)
        key.push_back(is_hole(segment.rows, list, slot) ? -1
                                                        : position_of(segment.rows, list, slot));
    }
    if (!segment.narrowed) continue;
    for (const int64_t i : segment.narrowed->indptr) key.push_back(i);
    for (int64_t i = 0; i < segment.narrowed->indptr.back(); ++i)
      key.push_back(segment.narrowed->values.as<int64_t>()[i]);
  }
  return key;
}

}  // namespace

std::shared_ptr<const Plan> ReferenceEngine::plan(const Layer& shape, const RowMap& rows,
                                                  std::span<const Segment> segments,
                                                  const SplitPolicy&) {
  auto plan = std::make_shared<ReferencePlan>();
  plan->made_for = key_of(shape, rows, segments);
  ++plans_made;
  return plan;
}

// ---- attention ----

namespace {

/// A row as one query head sees it.
struct Seen {
  std::vector<double> key{}, value{};
  int64_t mass_row = -1;
};

std::vector<double> rotated(std::vector<double> x, const Rope& rope, double position) {
  if (!rope) return x;
  const int half = rope.rotary_dim / 2;
  for (int c = 0; c < half; ++c) {
    const bool split = rope.style == Rope::Style::half_split;
    double &a = x[at(split ? c : 2 * c)], &b = x[at(split ? c + half : 2 * c + 1)];
    const double angle = position * rope.inv_freq[at(c)];
    const double cosine = std::cos(angle) * rope.attention_factor;
    const double sine = std::sin(angle) * rope.attention_factor;
    const double u = a * cosine - b * sine, v = a * sine + b * cosine;
    a = u, b = v;
  }
  return x;
}

std::vector<double> apply(const Operand& operand, const PartView& view, const ListView& list,
                          int64_t slot, const Layer& shape, int head, int heads_of_list, int dim) {
  const PageLayout& page = *view.page;
  const int index = page.stream(operand.stream);
  require(index >= 0, "no stream ", operand.stream);
  const StreamLayout& stream = page.streams[at(index)];
  const int unit = head % heads_of_list * stream.units / heads_of_list;
  const Features x = decode_slot(page, stream, list, unit, slot);
  float scale = 1;
  if (!operand.row_scale.empty()) {
    const int column = page.column(operand.row_scale);
    require(column >= 0, "no column ", operand.row_scale);
    std::memcpy(&scale,
                list.page(slot / page.page_tokens) + page.columns[at(column)].offset +
                    slot % page.page_tokens * 4,
                4);
  }
  const bool own = operand.map == Operand::Map::own, slice = operand.map == Operand::Map::slice;
  require(own || slice || operand.up, "an up map without weights");
  const int first = slice ? head * dim : 0, taken = slice ? dim : stream.width;
  std::vector<double> out(at(dim));
  for (int i = 0; i < dim; ++i) {
    double& y = out[at(i)];
    if (own || !operand.up)
      y = x.at(at(first + i));
    else
      for (int c = 0; c < taken; ++c)
        y += double{float_at(operand.up, head, i, c)} * x.at(at(first + c));
    y *= scale;
    if (!own && operand.bias) y += operand.bias.as<float>()[head * dim + i];
  }
  return operand.rotate ? rotated(std::move(out), shape.rope, position_of(view, list, slot)) : out;
}

/// Layers that rebuild: the decoded streams and columns of a row, by position.
struct Rebuilt {
  std::vector<std::vector<float>> streams{};
  std::vector<std::vector<u8>> columns{};
};

Rebuilt read_row(const PartView& view, const ListView& list, int64_t slot) {
  Rebuilt row;
  const PageLayout& page = *view.page;
  for (const StreamLayout& stream : page.streams) {
    if (stream.name.find('/') != std::string::npos) continue;
    auto& all = row.streams.emplace_back();
    for (int unit = 0; unit < stream.units; ++unit) {
      const Features x = decode_slot(page, stream, list, unit, slot);
      all.insert(all.end(), x.begin(), x.end());
    }
  }
  for (const ColumnLayout& column : page.columns) {
    if (column.name == "position" || column.name == "until" ||
        column.name.find('/') != std::string::npos)
      continue;
    const u8* const from = list.page(slot / page.page_tokens) + column.offset +
                           slot % page.page_tokens * size_of(column.dtype);
    row.columns.emplace_back(from, from + size_of(column.dtype));
  }
  return row;
}

}  // namespace

void ReferenceEngine::attend(const AttendCall& call, Ran* later) {
  const Layer& shape = *call.shape;
  const auto* plan = dynamic_cast<const ReferencePlan*>(call.plan);
  require(plan != nullptr && plan->made_for == key_of(shape, call.rows, call.segments),
          "the plan was made for something else");
  require(!call.segments.empty(), "no segments");
  require(bool(call.distance_bias) == (shape.distance_bias > 0), "a bias by distance");
  const int lists = call.segments[0].rows.lists_per_sequence;
  const int heads_of_list = shape.num_kv_heads / lists,
            group = shape.num_heads / shape.num_kv_heads;
  const int64_t num_lists = std::ssize(call.rows.sequences) * lists;
  std::vector<std::vector<int64_t>> mass_begin(at(num_lists));
  int64_t mass_rows = 0;
  for (int64_t list = 0; list < num_lists; ++list)
    for (const Segment& segment : call.segments) {
      require(std::ssize(segment.rows.lists) == num_lists, "segments of other lists");
      const ListView& view = list_of(segment.rows, list);
      require(view.last % segment.rows.from_tile == 0 || segment.rows.from_tile == 1 ||
                  view.settled >= view.last,
              "the past ends inside a tile");
      int32_t before = -1;
      for (int64_t slot = view.first; slot < view.last; ++slot) {
        if (is_hole(segment.rows, view, slot)) continue;
        const int32_t p = position_of(segment.rows, view, slot);
        require(p > before, "positions do not rise: ", p, " after ", before);
        before = p;
      }
      mass_begin[at(list)].push_back(mass_rows);
      mass_rows += view.last - view.first;
    }
  const int64_t mass_heads = shape.num_heads / lists;
  if (call.mass_request) {
    require(call.mass && call.mass.size(0) == mass_rows && call.mass.size(1) == mass_heads,
            "mass has the wrong shape");
    std::memset(call.mass.data, 0, at(mass_rows * mass_heads) * 4);
  }
  for (int64_t b = 0; b < std::ssize(call.rows.sequences); ++b) {
    const Range rows = call.rows.rows_of(b);
    for (int64_t r = rows.first; r < rows.last; ++r) {
      const int64_t q = call.rows.positions[at(r)];
      for (int h = 0; h < shape.num_heads; ++h) {
        const int head = h / group;
        const int64_t list = b * lists + head / heads_of_list;
        std::map<int64_t, std::pair<double, Seen>> seen;  // by position: logit, row
        std::map<int64_t, Rebuilt> all_rows;
        for (const Segment& segment : call.segments)
          for (int64_t slot = segment.rows.lists[at(list)].first;
               segment.layout->rebuilds && slot < segment.rows.lists[at(list)].last; ++slot)
            all_rows[position_of(segment.rows, segment.rows.lists[at(list)], slot)] =
                read_row(segment.rows, segment.rows.lists[at(list)], slot);
        for (size_t s = 0; s < call.segments.size(); ++s) {
          const Segment& segment = call.segments[s];
          const Layout& layout = *segment.layout;
          const ListView& view = segment.rows.lists[at(list)];
          std::vector<double> query;
          for (const float x : features_at(call.queries, r, h)) query.push_back(x);
          const int64_t stands =
              segment.query_positions.empty() ? q : segment.query_positions[at(r)];
          require(segment.query_positions.empty() || !call.rotated, "rotated twice");
          if (!call.rotated) query = rotated(query, shape.rope, static_cast<double>(stands));
          std::vector<int64_t> slots;
          if (segment.narrowed) {
            for (int64_t i = segment.narrowed->indptr[at(list)];
                 i < segment.narrowed->indptr[at(list + 1)]; ++i) {
              slots.push_back(segment.narrowed->values.as<int64_t>()[i]);
              check_slot(segment.rows, list, slots.back());
            }
            require(std::ranges::is_sorted(slots), "narrowed slots fall");
          } else {
            for (int64_t slot = view.first; slot < view.last; ++slot) slots.push_back(slot);
          }
          for (const int64_t slot : slots) {
            if (is_hole(segment.rows, view, slot)) continue;
            const auto [from, until] = interval(segment.rows, view, slot);
            if (q < from || q > until) continue;
            const int64_t p = position_of(segment.rows, view, slot);
            if (shape.window_left >= 0 && p < q - shape.window_left) continue;
            Seen row;
            if (layout.rebuilds) {
              const auto& source = all_rows;
              std::vector<int32_t> positions;
              std::vector<std::vector<float>> streams(source.begin()->second.streams.size());
              std::vector<std::vector<u8>> columns(source.begin()->second.columns.size());
              for (int64_t i = p - layout.halo; i <= p; ++i) {
                const auto found = source.find(i);
                positions.push_back(found == source.end() ? -1 : static_cast<int32_t>(i));
                for (size_t k = 0; k < streams.size(); ++k) {
                  std::vector<float> x(source.begin()->second.streams[k].size(), 0.0F);
                  if (found != source.end()) x = found->second.streams[k];
                  streams[k].insert(streams[k].end(), x.begin(), x.end());
                }
                for (size_t k = 0; k < columns.size(); ++k) {
                  std::vector<u8> x(source.begin()->second.columns[k].size(), 0);
                  if (found != source.end()) x = found->second.columns[k];
                  columns[k].insert(columns[k].end(), x.begin(), x.end());
                }
              }
              std::vector<TensorView> stream_views, column_views;
              const auto count = std::ssize(positions);
              for (auto& x : streams)
                stream_views.push_back(
                    dense_view(x.data(), Dtype::f32, {count, 1, std::ssize(x) / count}));
              for (auto& x : columns)
                column_views.push_back(dense_view(x.data(), Dtype::i32, {count}));
              std::vector<float> keys(at(shape.num_kv_heads * shape.head_dim)),
                  values(at(shape.num_kv_heads * shape.value_dim));
              require(segment.project != nullptr, "nobody to rebuild rows");
              segment.project->rebuild(
                  {.layer = call.layer,
                   .sequence = call.rows.sequences[at(b)],
                   .streams = stream_views,
                   .columns = column_views,
                   .positions = positions,
                   .halo = layout.halo,
                   .keys =
                       dense_view(keys.data(), Dtype::f32, {1, shape.num_kv_heads, shape.head_dim}),
                   .values = dense_view(values.data(), Dtype::f32,
                                        {1, shape.num_kv_heads, shape.value_dim})});
              for (int c = 0; c < shape.head_dim; ++c)
                row.key.push_back(keys[at(head * shape.head_dim + c)]);
              row.key = rotated(row.key, shape.rope, static_cast<double>(p));
              for (int c = 0; c < shape.value_dim; ++c)
                row.value.push_back(values[at(head * shape.value_dim + c)]);
            } else {
              row.key = apply(layout.key, segment.rows, view, slot, shape, head, heads_of_list,
                              shape.head_dim);
              row.value.assign(at(shape.value_dim), 0.0);
              for (const Operand& operand : layout.values) {
                const std::vector<double> part = apply(operand, segment.rows, view, slot, shape,
                                                       head, heads_of_list, shape.value_dim);
                for (size_t c = 0; c < part.size(); ++c) row.value[c] += part[c];
              }
            }
            double logit = 0;
            for (size_t c = 0; c < query.size(); ++c) logit += query[c] * row.key[c];
            logit *= shape.scale;
            if (!shape.alibi_slopes.empty())
              logit += double{shape.alibi_slopes[at(h)]} * static_cast<double>(p - q);
            if (shape.distance_bias > 0)
              logit += call.distance_bias
                           .as<float>()[h * call.distance_bias.stride(0) +
                                        std::min<int64_t>(stands - p, shape.distance_bias - 1)];
            if (shape.softcap > 0) logit = shape.softcap * std::tanh(logit / shape.softcap);
            row.mass_row = mass_begin[at(list)][s] + slot - view.first;
            require(seen.emplace(p, std::pair{logit, row}).second, "position ", p,
                    " is read twice by the query at ", q);
          }
        }
        double most = call.sinks.empty() ? -std::numeric_limits<double>::infinity()
                                         : double{call.sinks[at(h)]};
        for (const auto& [p, row] : seen) most = std::max(most, row.first);
        double sum = call.sinks.empty() ? 0 : std::exp(call.sinks[at(h)] - most);
        std::vector<double> out(at(shape.value_dim), 0.0);
        for (const auto& [p, row] : seen) {
          const double w = std::exp(row.first - most);
          sum += w;
          for (size_t c = 0; c < out.size(); ++c) out[c] += w * row.second.value[c];
        }
        if (call.out)
          for (size_t c = 0; c < out.size(); ++c)
            call.out.as<float>()[r * call.out.stride(0) + h * call.out.stride(1) +
                                 static_cast<int64_t>(c)] =
                sum > 0 ? static_cast<float>(out[c] / sum) : 0.0F;
        const double lse =
            sum > 0 ? most + std::log(sum) : -std::numeric_limits<double>::infinity();
        if (call.lse_ln)
          call.lse_ln.as<float>()[r * call.lse_ln.stride(0) + h * call.lse_ln.stride(1)] =
              static_cast<float>(lse);
        if (!call.mass_request) continue;
        const int64_t wanted = call.mass_request->last_queries;
        if (wanted > 0 && r < rows.last - wanted) continue;
        for (const auto& [p, row] : seen) {
          float& m = call.mass.as<float>()[row.second.mass_row * mass_heads + h % mass_heads];
          const auto probability = static_cast<float>(std::exp(row.first - lse));
          m = call.mass_request->over == MassRequest::Over::sum ? m + probability
                                                                : std::max(m, probability);
        }
      }
    }
  }
  if (later) *later = {.level = "fused", .kernel = "reference", .reason = "test"};
}

}  // namespace kvlab::test
