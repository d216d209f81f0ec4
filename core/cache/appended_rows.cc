#include "core/cache/appended_rows.h"

#include <algorithm>
#include <cstring>

#include "core/cache/row_columns.h"

namespace kvlab::cache {
namespace {

std::string who(int owner) {
  return owner == kLayout ? "project" : "selector " + std::to_string(owner);
}

}  // namespace

void AppendedRows::start(const Append& append) {
  append_ = &append;
  plan_ = &cache_.layers.plans[at(append.layer)];
  positions_ = append.rows.positions;
  owner_ = kLayout;
  streams_.resize(std::max(streams_.size(), plan_->streams.size()));
  stored_.resize(streams_.size());
  columns_.resize(std::max(columns_.size(), plan_->columns.size()));
  keeps_.resize(std::max(keeps_.size(), plan_->selections.size()));
  for (auto* buffers : {&streams_, &stored_, &columns_, &keeps_})
    for (Buffer& buffer : *buffers) buffer.view = {};
  decoded_in_use_ = 0;
  encoded_.assign(plan_->streams.size(), false);
  flags_.clear();
  for (auto& parts : placements_)
    for (auto& where : parts) where.clear();
  for (const int g : {plan_->main, plan_->all}) {
    if (g < 0) continue;
    cache_.chunk.replaces() ? locate_old(g) : locate_new(g);
  }
}

// ---- what stages ask for ----

TensorView AppendedRows::make(Buffer& buffer, Dtype dtype, std::initializer_list<int64_t> sizes,
                              u8 fill) {
  int64_t bytes = size_of(dtype);
  for (const int64_t size : sizes) bytes *= size;
  buffer.bytes.assign(at(std::max<int64_t>(bytes, 1)), fill);
  buffer.view = dense_view(buffer.bytes.data(), dtype, sizes, cache_.engine->device());
  return buffer.view;
}

int AppendedRows::find_stream(std::string_view name) const {
  int stream = cache_.layers.find_stream(append_->layer, owner_, name);
  if (stream < 0) stream = cache_.layers.find_stream(append_->layer, kLayout, name);
  if (stream >= 0) return stream;
  std::vector<std::string> known;
  for (const Stream& one : plan_->streams)
    if (one.owner == owner_ || one.owner == kLayout) known.push_back(one.spec.name);
  fail("E_UNKNOWN", who(owner_), ": layer ", append_->layer, " has no stream `", name, "`",
       suggestion(name, known));
}

void AppendedRows::take(std::string_view name, const TensorView& rows) {
  streams_[at(find_stream(name))].view = rows;
}

TensorView AppendedRows::stream(std::string_view name) {
  const int s = find_stream(name);
  Buffer& buffer = streams_[at(s)];
  if (buffer.view) return buffer.view;
  const Stream& stream = plan_->streams[at(s)];
  KVLAB_REQUIRE(stream.owner == owner_, "E_ORDER", who(owner_), ": stream `", name, "` of layer ",
                append_->layer, " is not written yet");
  return make(buffer, stream.dtype, {append_->rows.size(), stream.spec.units, stream.spec.width},
              0);
}

TensorView AppendedRows::as_stored(std::string_view name) {
  const int s = find_stream(name);
  if (stored_[at(s)].view) return stored_[at(s)].view;
  const Stream& stream = plan_->streams[at(s)];
  KVLAB_REQUIRE(cache_.group(stream.group).direct, "E_UNSUPPORTED", who(owner_), ": stream `", name,
                "` of layer ", append_->layer,
                " is encoded later than at append; ask for encode_at_append");
  const TensorView out = make(stored_[at(s)], stream.dtype,
                              {append_->rows.size(), stream.spec.units, stream.spec.width}, 0);
  encode(s, out);
  return out;
}

TensorView AppendedRows::column(std::string_view name) {
  int c = cache_.layers.find_column(append_->layer, owner_, name);
  if (c < 0) c = cache_.layers.find_column(append_->layer, kLayout, name);
  std::vector<std::string> known;
  for (const ColumnOf& one : plan_->columns) known.push_back(one.column.name);
  if (c < 0)
    fail("E_UNKNOWN", who(owner_), ": layer ", append_->layer, " has no column `", name, "`",
         suggestion(name, known));
  Buffer& buffer = columns_[at(c)];
  return buffer.view ? buffer.view
                     : make(buffer, plan_->columns[at(c)].column.dtype, {append_->rows.size()}, 0);
}

TensorView AppendedRows::keep() {
  KVLAB_REQUIRE(owner_ != kLayout && plan_->selections[at(owner_)].flags, "E_UNSUPPORTED",
                who(owner_), ": only a selector whose selection says `flags` may flag rows");
  Buffer& buffer = keeps_[at(owner_)];
  if (buffer.view) return buffer.view;
  const Selection& selection = plan_->selections[at(owner_)];
  const int heads = cache_.shape.layers[at(append_->layer)].num_kv_heads;
  const int columns = selection.granularity == Scope::head ? heads : 1;
  const int lists = cache_.group(plan_->main).lists;
  const TensorView view = make(buffer, Dtype::u8, {append_->rows.size(), columns}, 1);
  flags_.push_back({.flags = buffer.bytes.data(),
                    .columns = columns,
                    .heads_per_list = std::max(columns / lists, 1),
                    .sinks = selection.sinks,
                    .recent = selection.recent});
  return view;
}

TensorView AppendedRows::state(SeqId sequence, std::string_view name) {
  const int s = owner_ == kLayout ? -1 : cache_.layers.find_state(append_->layer, owner_, name);
  KVLAB_REQUIRE(s >= 0, "E_UNKNOWN", who(owner_), ": layer ", append_->layer, " has no state `",
                name, "`");
  return cache_.staged_state(cache_.in_chunk(sequence, "state"), s);
}

TensorView AppendedRows::past(SeqId sequence, std::string_view name) {
  const Stream& stream = plan_->streams[at(find_stream(name))];
  Sequence& one = cache_.in_chunk(sequence, "past");
  const Group& group = cache_.group(stream.group);
  KVLAB_REQUIRE(group.lists == 1, "E_UNSUPPORTED", who(owner_), ": stream `", name,
                "` lies in one list per head; its past has no common rows");
  const Mark& mark = cache_.mark(one, stream.group, 0);
  // What lay there before the pass and still lives.
  std::vector<std::pair<Part, std::vector<int64_t>>> slots;
  int64_t count = 0;
  Sequence* const only[] = {&one};
  for (const Part part : {Part::first, Part::past, Part::recent}) {
    const PageLayout& page = cache_.page(stream.group, part);
    if (page.bytes == 0) continue;
    PartView view;
    cache_.view(stream.group, part, only, view);
    ListView& list = view.lists[0];
    list.last = mark.last[index_of(part)];
    if (part == Part::recent) list.first = std::max(list.first, mark.pending);
    std::vector<int64_t> living;
    ColumnCursor<int32_t> until(page, list, std::max(page.until, 0));
    for (int64_t slot = list.first; slot < list.last; ++slot)
      if (!group.drops || until[slot] >= cache_.span(one).first) living.push_back(slot);
    count += std::ssize(living);
    slots.emplace_back(part, std::move(living));
  }
  if (decoded_in_use_ == decoded_.size()) decoded_.emplace_back();
  const TensorView out = make(decoded_[decoded_in_use_++], Dtype::f32,
                              {count, stream.spec.units, stream.spec.width}, 0);
  int64_t row = 0;
  for (const auto& [part, living] : slots) {
    PartView view;
    cache_.view(stream.group, part, only, view);
    std::vector<Placement> where;
    for (const int64_t slot : living)
      where.push_back({.row = static_cast<int32_t>(row++), .list = 0, .slot = slot});
    if (!where.empty())
      cache_.engine->decode({.from = &view, .stream = stream.index, .rows = out, .where = where});
  }
  cache_.engine->sync();
  return out;
}

// ---- flags ----

int32_t AppendedRows::until(int64_t row, int list) const {
  int64_t until = kForever;
  const int64_t p = position(row);
  for (const Flags& one : flags_) {
    if (p < one.sinks) continue;
    const u8* const mine =
        one.flags + row * one.columns + (one.columns == 1 ? 0 : list * one.heads_per_list);
    const bool keeps =
        std::any_of(mine, mine + one.heads_per_list, [](u8 flag) { return flag != 0; });
    if (!keeps) until = std::min(until, p + one.recent - 1);
  }
  return static_cast<int32_t>(until);
}

void AppendedRows::check_flags() {
  if (plan_->reindexes) {
    for (int s = 0; s < static_cast<int>(plan_->selections.size()); ++s) {
      if (!plan_->selections[at(s)].reindexes) continue;
      const Buffer& flags = keeps_[at(s)];
      for (int64_t row = 0; row < append_->rows.size(); ++row)
        KVLAB_REQUIRE(position(row) < plan_->sinks ||
                          (flags.view && flags.bytes[at(row * flags.view.size(1))] == 0),
                      "E_COMPOSE", "selector ", s, " renumbers positions but keeps position ",
                      position(row), ", which is no sink, outside its window");
    }
  }
  if (flags_.empty()) return;
  const int lists = cache_.group(plan_->main).lists;
  for (int64_t i = 0; i < std::ssize(append_->rows.sequences); ++i) {
    Sequence& one = *cache_.chunk.sequences[at(i)];
    const int64_t last = cache_.span(one).last - 1;
    for (int64_t row = append_->rows.rows_of(i).first; row < append_->rows.rows_of(i).last; ++row)
      for (int l = 0; l < lists; ++l) {
        const int32_t end = until(row, l);
        if (end == kForever) continue;
        KVLAB_REQUIRE(cache_.chunk.read != ReadPolicy::stored || end >= last, "E_READ_POLICY",
                      "layer ", append_->layer, ": position ", position(row), " would expire at ",
                      end, ", inside a `stored` pass that ends at ", last, "; read it as `masked`");
        one.flagged = std::max<int64_t>(one.flagged, end);
      }
  }
}

// ---- where rows lie ----

const std::vector<Placement>& AppendedRows::placements(int g, Part part) {
  return placements_[g == plan_->main ? 0 : 1][index_of(part)];
}

/// The rows just added, at the ends of their lists.
void AppendedRows::locate_new(int g) {
  const Group& group = cache_.group(g);
  auto& where = placements_[g == plan_->main ? 0 : 1];
  int32_t call_list = 0;
  for (int64_t i = 0; i < std::ssize(append_->rows.sequences); ++i) {
    const Sequence& one = *cache_.chunk.sequences[at(i)];
    const Range rows = append_->rows.rows_of(i);
    const int64_t in_first =
        std::clamp<int64_t>(group.first - cache_.span(one).first, 0, rows.size());
    for (int l = 0; l < group.lists; ++l, ++call_list) {
      const auto place = [&](Part part, int64_t first, int64_t last) {
        int64_t slot = cache_.list(one, g, l)[part].slots().last - (last - first);
        for (int64_t row = first; row < last; ++row)
          where[index_of(part)].push_back(
              {.row = static_cast<int32_t>(rows.first + row), .list = call_list, .slot = slot++});
      };
      place(Part::first, 0, in_first);
      place(cache_.entry_part(group), in_first, rows.size());
      if (cache_.keeps_raw(group)) place(Part::chunk, 0, rows.size());
    }
  }
}

/// Rows stored long ago, in every form they have.
void AppendedRows::locate_old(int g) {
  const Group& group = cache_.group(g);
  auto& where = placements_[g == plan_->main ? 0 : 1];
  for (int64_t i = 0; i < std::ssize(append_->rows.sequences); ++i) {
    const Sequence& one = cache_.in_chunk(append_->rows.sequences[at(i)], "append");
    const Range rows = append_->rows.rows_of(i);
    for (int l = 0; l < group.lists; ++l)
      for (int64_t row = rows.first; row < rows.last; ++row) {
        bool found = false;
        for (const Part part : {Part::first, Part::past, Part::recent}) {
          if (cache_.page(g, part).bytes == 0) continue;
          if (part != Part::first && position(row) < group.first) continue;
          const ListView view = cache_.list(one, g, l)[part].view();
          RowColumns columns(cache_.page(g, part), view, cache_.offset_of(g, part));
          const int64_t slot = columns.lower_bound(position(row));
          if (slot == view.last || columns.position(slot) != position(row) ||
              columns.until_or_forever(slot) < 0)
            continue;
          KVLAB_REQUIRE(part != Part::past || group.row_wise, "E_ALIGN", "cache: append to layer ",
                        append_->layer, ": position ", position(row), " lies in a tile of ",
                        group.tile, " rows that are encoded together; it cannot be replaced alone");
          found = true;
          where[index_of(part)].push_back(
              {.row = static_cast<int32_t>(row), .list = one.open * group.lists + l, .slot = slot});
        }
        KVLAB_REQUIRE(found, "E_POSITION", "cache: append to layer ", append_->layer, ": position ",
                      position(row), " of sequence ", static_cast<int64_t>(one.id),
                      " was dropped; it cannot be replaced");
      }
  }
}

void AppendedRows::place_column(int g, Part part, int column, const TensorView& values) {
  const PageLayout& page = cache_.page(g, part);
  const int64_t size = size_of(page.columns[at(column)].dtype);
  PartView view;
  cache_.view(g, part, cache_.chunk.sequences, view);
  for (const Placement& one : placements(g, part)) {
    u8* const to = column_at(page, view.lists[at(one.list)], column, one.slot);
    if (values)
      std::memcpy(to, values.at(one.row), at(size));
    else
      std::memset(to, 0, at(size));
  }
}

void AppendedRows::place_own(int g, Part part) {
  const Group& group = cache_.group(g);
  const PageLayout& page = cache_.page(g, part);
  PartView view;
  cache_.view(g, part, cache_.chunk.sequences, view);
  const auto write = [&](int column, const Placement& one, int32_t value) {
    std::memcpy(column_at(page, view.lists[at(one.list)], column, one.slot), &value, sizeof value);
  };
  if (page.position >= 0)
    for (const Placement& one : placements(g, part)) write(page.position, one, position(one.row));
  if (page.until < 0) return;
  const bool may_die = group.drops && !flags_.empty();
  for (const Placement& one : placements(g, part))
    write(page.until, one, may_die ? until(one.row, one.list % group.lists) : kForever);
}

void AppendedRows::place_columns() {
  for (const int g : {plan_->main, plan_->all}) {
    if (g < 0) continue;
    for (const Part part : {Part::first, Part::past, Part::recent, Part::chunk}) {
      const PageLayout& page = cache_.page(g, part);
      if (placements(g, part).empty()) continue;
      if (!cache_.chunk.replaces()) place_own(g, part);
      for (size_t c = 0; c < plan_->columns.size(); ++c) {
        const int column = page.column(plan_->columns[c].page_name);
        const bool is_ours = plan_->columns[c].owner == kLayout || !cache_.chunk.replaces();
        if (column >= 0 && is_ours) place_column(g, part, column, columns_[c].view);
      }
    }
  }
}

TensorView AppendedRows::written(int s) const {
  const Stream& stream = plan_->streams[at(s)];
  KVLAB_REQUIRE(streams_[at(s)].view, "E_INTERNAL", who(stream.owner), ": stream `",
                stream.spec.name, "` of layer ", append_->layer, " was not written");
  return streams_[at(s)].view;
}

int64_t AppendedRows::held() const {
  size_t bytes = 0;
  for (const auto* buffers : {&streams_, &stored_, &columns_, &keeps_, &decoded_})
    for (const Buffer& buffer : *buffers) bytes += buffer.bytes.capacity();
  for (const auto& parts : placements_)
    for (const auto& where : parts) bytes += where.capacity() * sizeof(Placement);
  return static_cast<int64_t>(bytes);
}

void AppendedRows::encode_into(int s, Part part, TensorView stored) {
  const Stream& stream = plan_->streams[at(s)];
  const std::vector<Placement>& where = placements(stream.group, part);
  if (where.empty()) return;
  PartView view;
  cache_.view(stream.group, part, cache_.chunk.sequences, view);
  cache_.engine->encode({.to = &view,
                         .stream = part == Part::chunk ? stream.chunk_index : stream.index,
                         .rows = written(s),
                         .where = where,
                         .as_stored = stored});
}

void AppendedRows::encode(int s, TensorView stored) {
  const Stream& stream = plan_->streams[at(s)];
  for (const Part part : {Part::first, Part::past, Part::recent}) encode_into(s, part, stored);
  if (stream.chunk_index >= 0) encode_into(s, Part::chunk, {});
  encoded_[at(s)] = true;
}

void AppendedRows::place_streams() {
  for (int s = 0; s < static_cast<int>(plan_->streams.size()); ++s) {
    const bool is_ours = plan_->streams[at(s)].owner == kLayout || !cache_.chunk.replaces();
    if (is_ours && !encoded_[at(s)]) encode(s, {});
  }
}

}  // namespace kvlab::cache
