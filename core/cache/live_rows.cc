#include "core/cache/live_rows.h"

#include <algorithm>
#include <cstring>

#include "core/cache/row_columns.h"

namespace kvlab::cache {
LiveView::LiveView(Impl& cache, int layer, int selector, std::span<Sequence* const> of, Sight sight)
    : cache_(cache),
      layer_(layer),
      selector_(selector),
      group_(cache.layers.plans[at(layer)].main),
      of_(of.begin(), of.end()),
      sight_(sight) {
  const Selection& selection = cache.layers.plans[at(layer)].selections[at(selector)];
  lists_ = selection.granularity == Scope::head ? cache.group(group_).lists : 1;
  for (const Sequence* one : of_) ids_.push_back(one->id);
}

// ---- which rows ----

/// The living rows of one list by rising position.
void LiveView::build_list(Sequence& one, int l,
                          std::vector<std::pair<int32_t, Place>>& rows) const {
  const Group& group = cache_.group(group_);
  const RowList& list = cache_.list(one, group_, l);
  const Mark& mark = cache_.mark(one, group_, l);
  const Range span = cache_.span(one);
  const bool in_pass = sight_ == Sight::pass;
  const int64_t alive_from = in_pass ? span.first : span.last;
  const bool keeps_raw = in_pass && cache_.keeps_raw(group);
  const auto add = [&](int32_t p, Part part, int64_t slot, int64_t encoded) {
    rows.emplace_back(p, Place{.list = l,
                               .part = part,
                               .slot = slot,
                               .encoded = encoded,
                               .is_given = keeps_raw && p >= span.first});
  };
  const auto columns = [&](Part part) {
    return RowColumns(cache_.page(group_, part), list[part].view(), cache_.offset_of(group_, part));
  };
  if (group.first > 0) {
    RowColumns first = columns(Part::first);
    for (int64_t slot = 0; slot < list[Part::first].slots().last; ++slot)
      if (!first.is_hole(slot) && first.until_or_forever(slot) >= alive_from)
        add(static_cast<int32_t>(slot), Part::first, slot, -1);
  }
  RowColumns past = columns(Part::past);
  const Range old = list[Part::past].slots();
  const int64_t past_end = in_pass && !group.direct ? mark.last[index_of(Part::past)] : old.last;
  for (int64_t slot = old.first; slot < past_end; ++slot)
    if (past.until_or_forever(slot) >= alive_from) add(past.position(slot), Part::past, slot, -1);
  if (group.direct) return;
  RowColumns recent = columns(Part::recent);
  const Range slots = list[Part::recent].slots();
  int64_t twin = past_end;
  for (int64_t slot = std::max(slots.first, in_pass ? mark.pending : list.pending);
       slot < slots.last; ++slot) {
    const int32_t p = recent.position(slot);
    while (twin < old.last && past.position(twin) < p) ++twin;
    const bool moved = twin < old.last && past.position(twin) == p;
    const int32_t until = moved ? past.until_or_forever(twin) : recent.until(slot);
    if (until >= alive_from) add(p, Part::recent, slot, moved ? twin : -1);
  }
}

void LiveView::build() const {
  if (is_built_) return;
  is_built_ = true;
  cache_.engine->sync();
  const int layer_lists = cache_.group(group_).lists;
  indptr_ = {0};
  first_place_ = {0};
  std::vector<std::pair<int32_t, Place>> rows;
  const auto flush = [&] {
    for (size_t i = 0; i < rows.size(); ++i) {
      if (i == 0 || rows[i].first != rows[i - 1].first) {
        positions_.push_back(rows[i].first);
        first_place_.push_back(first_place_.back());
      }
      places_.push_back(rows[i].second);
      ++first_place_.back();
    }
    indptr_.push_back(std::ssize(positions_));
    rows.clear();
  };
  for (Sequence* one : of_) {
    for (int l = 0; l < layer_lists; ++l) {
      build_list(*one, l, rows);
      if (lists_ == layer_lists) flush();
    }
    if (lists_ == layer_lists) continue;
    std::ranges::stable_sort(rows, {}, [](const auto& row) { return row.first; });
    flush();
  }
}

std::span<const Place> LiveView::places(int64_t row) const {
  build();
  return std::span(places_).subspan(at(first_place_[at(row)]),
                                    at(first_place_[at(row + 1)] - first_place_[at(row)]));
}

Ragged LiveView::positions() const {
  build();
  return {indptr_, dense_view(positions_.data(), Dtype::i32, {std::ssize(positions_)},
                              cache_.engine->device())};
}

// ---- columns ----

/// What waits for the end of the chunk, per list of the layer.
std::vector<ColumnWrites*> LiveView::writes(const Sequence& one, int column) const {
  const auto lists = static_cast<int64_t>(cache_.store.lists_per_sequence());
  std::vector<ColumnWrites*> out;
  for (int l = 0; l < cache_.group(group_).lists; ++l)
    out.push_back(
        &cache_.chunk.columns[{one.open * lists + cache_.list_number(group_, l), column}]);
  return out;
}

void LiveView::read_column(int c, Bytes_& out) const {
  const ColumnOf& column = cache_.layers.plans[at(layer_)].columns[at(c)];
  const int64_t size = size_of(column.column.dtype);
  for (int64_t list = 0; list + 1 < std::ssize(indptr_); ++list) {
    Sequence& one = sequence_of_list(list);
    const std::vector<ColumnWrites*> waiting = writes(one, c);
    std::vector<size_t> next(waiting.size(), 0);
    for (int64_t row = indptr_[at(list)]; row < indptr_[at(list + 1)]; ++row) {
      const Place& place = places(row).front();
      const ColumnWrites& mine = *waiting[at(place.list)];
      size_t& i = next[at(place.list)];
      while (i < mine.positions.size() && mine.positions[i] < positions_[at(row)]) ++i;
      const bool waits = i < mine.positions.size() && mine.positions[i] == positions_[at(row)];
      const PageLayout& page = cache_.page(group_, place.part);
      const u8* const from =
          waits ? mine.values.data() + static_cast<int64_t>(i) * size
                : column_at(page, cache_.list(one, group_, place.list)[place.part].view(),
                            page.column(column.page_name), place.slot);
      std::memcpy(out.data() + row * size, from, at(size));
    }
  }
}

Ragged LiveView::column(std::string_view name) {
  build();
  int c = cache_.layers.find_column(layer_, selector_, name);
  if (c < 0) c = cache_.layers.find_column(layer_, kLayout, name);
  const LayerPlan& plan = cache_.layers.plans[at(layer_)];
  std::vector<std::string> known;
  for (const ColumnOf& one : plan.columns) known.push_back(one.column.name);
  if (c < 0)
    fail("E_UNKNOWN", "selector ", selector_, ": layer ", layer_, " has no column `", name, "`",
         suggestion(name, known));
  auto values = std::ranges::find(columns_, c, [](const auto& one) { return one->column; });
  const Dtype dtype = plan.columns[at(c)].column.dtype;
  const int64_t rows = std::ssize(positions_);
  if (values == columns_.end()) {
    values = columns_.insert(values, std::make_unique<Values>());
    (*values)->column = c;
    (*values)->now.resize(at(std::max<int64_t>(rows * size_of(dtype), 1)));
    read_column(c, (*values)->now);
    (*values)->before = (*values)->now;
  }
  return {indptr_, dense_view((*values)->now.data(), dtype, {rows}, cache_.engine->device())};
}

void LiveView::keep_writes() {
  for (const auto& values : columns_) {
    if (values->now == values->before) continue;
    const int64_t size = std::ssize(values->now) / std::max<int64_t>(std::ssize(positions_), 1);
    // The view holds every row that can still be asked for in this chunk: it replaces what waited.
    for (int64_t list = 0; list + 1 < std::ssize(indptr_); ++list) {
      const std::vector<ColumnWrites*> waiting = writes(sequence_of_list(list), values->column);
      for (size_t l = 0; l < waiting.size(); ++l)
        if (lists_ == 1 || at(list % lists_) == l) *waiting[l] = {};
      for (int64_t row = indptr_[at(list)]; row < indptr_[at(list + 1)]; ++row)
        for (const Place& place : places(row)) {
          ColumnWrites& kept = *waiting[at(place.list)];
          kept.positions.push_back(positions_[at(row)]);
          const u8* const from = values->now.data() + row * size;
          kept.values.insert(kept.values.end(), from, from + size);
        }
    }
    values->before = values->now;
  }
}

// ---- numbers ----

Ragged LiveView::gather_mass(std::span<Sequence* const> of, std::span<const Segment> segments,
                             std::span<const float> raw) {
  build();
  const int layer_lists = cache_.group(group_).lists;
  const int64_t slots = [&] {
    int64_t sum = 0;
    for (const Segment& segment : segments)
      for (const ListView& list : segment.rows.lists) sum += list.last - list.first;
    return sum;
  }();
  const int64_t heads = slots > 0 ? std::ssize(raw) / slots : 0;  // query heads of a list
  const int64_t wide = lists_ == layer_lists ? heads : heads * layer_lists;
  buffers_.push_back(std::make_unique<Buffer>());
  std::vector<float>& out = buffers_.back()->values;
  out.assign(at(std::max<int64_t>(std::ssize(positions_) * wide, 1)), 0.0F);
  // Where each (list of the call, segment) begins in `raw`.
  std::vector<std::vector<int64_t>> begins;
  int64_t begin = 0;
  for (size_t list = 0; list < of.size() * at(layer_lists); ++list) {
    auto& mine = begins.emplace_back();
    for (const Segment& segment : segments) {
      mine.push_back(begin);
      begin += segment.rows.lists[list].last - segment.rows.lists[list].first;
    }
  }
  const auto add = [&](size_t call_list, Part part, int64_t slot, float* to) {
    for (size_t s = 0; s < segments.size(); ++s) {
      if (segments[s].rows.page != &cache_.page(group_, part)) continue;
      const ListView& list = segments[s].rows.lists[call_list];
      if (slot < list.first || slot >= list.last) return;
      const float* const from = raw.data() + (begins[call_list][s] + slot - list.first) * heads;
      for (int64_t h = 0; h < heads; ++h) to[h] += from[h];
    }
  };
  for (int64_t list = 0; list + 1 < std::ssize(indptr_); ++list) {
    const auto found = std::ranges::find(of, &sequence_of_list(list));
    if (found == of.end()) continue;
    for (int64_t row = indptr_[at(list)]; row < indptr_[at(list + 1)]; ++row)
      for (const Place& place : places(row)) {
        const size_t call_list =
            static_cast<size_t>(found - of.begin()) * at(layer_lists) + at(place.list);
        float* const to =
            out.data() + row * wide + (lists_ == layer_lists ? 0 : place.list * heads);
        add(call_list, place.part, place.slot, to);
        if (place.encoded >= 0) add(call_list, Part::past, place.encoded, to);
        if (place.is_given) add(call_list, Part::chunk, positions_[at(row)], to);
      }
  }
  return {indptr_, dense_view(out.data(), Dtype::f32, {std::ssize(positions_), wide},
                              cache_.engine->device())};
}

Ragged LiveView::mass(const Attend& queries) {
  std::vector<Sequence*> of;
  for (const SeqId id : queries.rows.sequences) {
    of.push_back(&cache_.in_chunk(id, "mass"));
    KVLAB_REQUIRE(std::ranges::find(of_, of.back()) != of_.end(), "E_SEQUENCE", "selector ",
                  selector_, ": mass: sequence ", static_cast<int64_t>(id),
                  " is not one of the rows' sequences");
  }
  MassRequest request = cache_.layers.plans[at(layer_)].selections[at(selector_)].mass;
  request.last_queries = 0;
  request.wanted = true;
  std::vector<Segment> segments = cache_.segments(layer_, of, sight_);
  std::vector<float> raw;
  cache_.run_attention(queries, segments, request, &raw);
  return gather_mass(of, segments, raw);
}

Ragged LiveView::decoded(std::string_view name) {
  build();
  int s = cache_.layers.find_stream(layer_, selector_, name);
  if (s < 0) s = cache_.layers.find_stream(layer_, kLayout, name);
  KVLAB_REQUIRE(s >= 0, "E_UNKNOWN", "selector ", selector_, ": layer ", layer_, " has no stream `",
                name, "`");
  const Stream& stream = cache_.layers.plans[at(layer_)].streams[at(s)];
  KVLAB_REQUIRE(stream.group == group_, "E_UNSUPPORTED", "selector ", selector_, ": stream `", name,
                "` keeps every token, so it is no column of the living rows; read it as `past`");
  const int layer_lists = cache_.group(group_).lists;
  const int64_t width = stream.spec.width, all_units = stream.spec.units;
  const int64_t units = lists_ == layer_lists ? all_units / layer_lists : all_units;
  const int64_t rows = std::ssize(positions_);
  buffers_.push_back(std::make_unique<Buffer>());
  std::vector<float>& out = buffers_.back()->values;
  out.assign(at(std::max<int64_t>(rows * units * width, 1)), 0.0F);
  // The engine writes unit u of a list to unit (list * units + u) of its row.
  std::vector<float> wide;
  const bool direct = units == all_units;
  if (!direct) wide.resize(at(std::max<int64_t>(rows * all_units * width, 1)));
  const TensorView to = dense_view(direct ? out.data() : wide.data(), Dtype::f32,
                                   {rows, all_units, width}, cache_.engine->device());
  for (const Part part : {Part::first, Part::past, Part::recent}) {
    std::vector<Placement> where;
    for (int64_t list = 0; list + 1 < std::ssize(indptr_); ++list)
      for (int64_t row = indptr_[at(list)]; row < indptr_[at(list + 1)]; ++row)
        for (const Place& place : places(row))
          if (place.part == part)
            where.push_back({.row = static_cast<int32_t>(row),
                             .list = static_cast<int32_t>(list / lists_ * layer_lists + place.list),
                             .slot = place.slot});
    if (where.empty()) continue;
    PartView view;
    cache_.view(group_, part, of_, view);
    cache_.engine->decode({.from = &view, .stream = stream.index, .rows = to, .where = where});
  }
  cache_.engine->sync();
  if (!direct)
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(out.data() + row * units * width,
                  wide.data() + (row * all_units + places(row).front().list * units) * width,
                  at(units * width) * sizeof(float));
  return {indptr_,
          dense_view(out.data(), Dtype::f32, {rows, units, width}, cache_.engine->device())};
}

TensorView LiveView::state(SeqId sequence, std::string_view name) {
  const int s = cache_.layers.find_state(layer_, selector_, name);
  KVLAB_REQUIRE(s >= 0, "E_UNKNOWN", "selector ", selector_, ": layer ", layer_, " has no state `",
                name, "`");
  return cache_.staged_state(cache_.in_chunk(sequence, "state"), s);
}

}  // namespace kvlab::cache
