// Replacing passes: rows are rewritten where they lie, and put back when the pass is cancelled.

#include <algorithm>
#include <cstring>

#include "core/cache/appended_rows.h"
#include "core/cache/impl.h"

namespace kvlab {

using cache::OldBytes;

namespace {

/// Calls visit(bytes, count) for everything a slot holds, streams then columns.
template <class Visit>
void each_piece(const PageLayout& page, const ListView& list, int64_t slot, Visit&& visit) {
  u8* const base = list.page(slot / page.page_tokens);
  const int64_t row = slot % page.page_tokens;
  for (const StreamLayout& stream : page.streams)
    for (size_t p = 0; p < stream.planes.size(); ++p)
      for (int unit = 0; unit < stream.units; ++unit) {
        const int64_t size = stream.format.planes[p].row_bytes;
        visit(base + stream.planes[p].offset + unit * stream.planes[p].unit_stride + row * size,
              size);
      }
  for (const ColumnLayout& column : page.columns)
    visit(base + column.offset + row * size_of(column.dtype), size_of(column.dtype));
}

}  // namespace

void cache::Impl::check_rows_of_pass(const Append& given) {
  const RowMap& rows = given.rows;
  check_query_rows(rows, false);  // the same map rules: live sequences of the pass, rising rows
  for (int64_t i = 0; i < std::ssize(rows.sequences); ++i) {
    const Sequence& one = in_chunk(rows.sequences[at(i)], "append");
    const Range pass = chunk.map().rows_of(one.open), mine = rows.rows_of(i);
    const auto begin = chunk.positions.begin();
    for (int64_t row = mine.first; row < mine.last; ++row)
      KVLAB_REQUIRE(
          std::binary_search(begin + pass.first, begin + pass.last, rows.positions[at(row)]),
          "E_POSITION", "cache: append to layer ", given.layer, ": position ",
          rows.positions[at(row)], " of sequence ", static_cast<int64_t>(one.id),
          " is not one the pass began with");
  }
}

/// What is about to be overwritten, and memory of one's own to write to.
void cache::Impl::save_old(int layer) {
  const cache::LayerPlan& plan = layers.plans[at(layer)];
  for (const int g : {plan.main, plan.all}) {
    if (g < 0) continue;
    for (const Part part : {Part::first, Part::past, Part::recent})
      for (const Placement& row : rows->placements(g, part)) {
        Sequence& one = *chunk.sequences[at(row.list / group(g).lists)];
        const int l = row.list % group(g).lists;
        PageList& pages = list(one, g, l)[part];
        pages.own({row.slot, row.slot + 1});
        OldBytes old{.sequence = &one, .list = list_number(g, l), .part = part, .slot = row.slot};
        each_piece(page(g, part), pages.view(), row.slot, [&](const u8* bytes, int64_t count) {
          old.bytes.insert(old.bytes.end(), bytes, bytes + count);
        });
        chunk.replaced.push_back(std::move(old));
      }
  }
}

void cache::Impl::put_back() {
  for (; !chunk.replaced.empty(); chunk.replaced.pop_back()) {
    const OldBytes& old = chunk.replaced.back();
    const ListView view = old.sequence->lists[at(old.list)][old.part].view();
    const u8* from = old.bytes.data();
    each_piece(page(group_of_list(old.list), old.part), view, old.slot,
               [&](u8* bytes, int64_t count) {
                 std::memcpy(bytes, from, at(count));
                 from += count;
               });
  }
}

}  // namespace kvlab
