// How rows grow old inside a pass: tiles are formed, the pass's own rows make room.

#include <algorithm>

#include "core/cache/impl.h"
#include "core/cache/row_columns.h"
#include "core/cache/tiles.h"

namespace kvlab {

using cache::DueRows;
using cache::Step;

// ---- tiles ----

void cache::Impl::form_tiles(int g) {
  const Group& rules = group(g);
  if (rules.direct) return;
  const PageLayout& from_page = page(g, Part::recent);
  std::vector<Move> moves;
  std::vector<DueRows> due;
  int32_t call_list = 0;
  for (Sequence* one : chunk.sequences)
    for (int l = 0; l < rules.lists; ++l, ++call_list) {
      RowList& rows = list(*one, g, l);
      due.push_back(cache::due_rows(rules, from_page, rows[Part::recent].view(), rows.pending,
                                    span(*one).last - 1));
      int64_t to = rows[Part::past].slots().last;
      rows[Part::past].extend(std::ssize(due.back().slots));
      for (const int64_t slot : due.back().slots) moves.push_back({call_list, slot, to++});
    }
  if (!moves.empty()) {
    PartView from, to;
    view(g, Part::recent, chunk.sequences, from);
    view(g, Part::past, chunk.sequences, to);
    engine->move({.from = &from, .to = &to, .moves = moves});
  }
  size_t i = 0;
  for (Sequence* one : chunk.sequences)
    for (int l = 0; l < rules.lists; ++l, ++i) {
      if (!due[i].slots.empty()) hide_exact(list(*one, g, l)[Part::recent], g, due[i].slots);
      list(*one, g, l).pending = due[i].pending;
    }
}

/// Rows that now lie in the past as well are read exactly for as long as a token-by-token run would
/// have: up to the position before their tile's own.
void cache::Impl::hide_exact(PageList& recent, int g, std::span<const int64_t> slots) {
  const Group& rules = group(g);
  if (rules.cross) return;  // read by no position: `pending` alone parts the forms
  recent.own({slots.front(), slots.back() + 1});
  const PageLayout& layout = page(g, Part::recent);
  cache::RowColumns rows(layout, recent.view(), offset_of(g, Part::recent));
  const auto tile = static_cast<size_t>(rules.tile);
  for (size_t first = 0; first < slots.size(); first += tile) {
    const int64_t last_exact = rows.position(slots[first + tile - 1]) + rules.lag - 1;
    for (size_t i = first; i < first + tile; ++i)
      rows.until(slots[i]) = static_cast<int32_t>(last_exact);
  }
}

// ---- the pass's own rows ----

void cache::Impl::settle_below(int layer) {
  for (int below = 0; below < layer; ++below)
    if (chunk.steps[static_cast<size_t>(below)] == Step::appended &&
        layers.plans[static_cast<size_t>(below)].last_reader < layer)
      settle(below);
}

void cache::Impl::settle(int layer) {
  chunk.steps[static_cast<size_t>(layer)] = Step::settled;
  const cache::LayerPlan& plan = layers.plans[static_cast<size_t>(layer)];
  if (!plan.stores || chunk.replaces()) return;
  for (const int g : {plan.main, plan.all}) {
    if (g < 0) continue;
    form_tiles(g);
    for (Sequence* one : chunk.sequences)
      for (int l = 0; l < group(g).lists; ++l) {
        RowList& rows = list(*one, g, l);
        if (page(g, Part::chunk).bytes > 0) rows[Part::chunk].clear();
        if (!group(g).direct) release_pass_rows(*one, g, l);
      }
  }
  moved(layer);
}

/// Whole pages of this pass's rows that no later query may read, so that the peak is one layer's.
/// Older rows stay for cancel.
void cache::Impl::release_pass_rows(Sequence& one, int g, int l) {
  RowList& rows = list(one, g, l);
  const int64_t from = mark(one, g, l).last[index_of(Part::recent)];
  if (rows.pending <= from) return;
  cache::RowColumns recent(page(g, Part::recent), rows[Part::recent].view(),
                           offset_of(g, Part::recent));
  const int64_t line = exact_line(span(one).last);
  int64_t slot = from;
  while (slot < rows.pending && (group(g).cross || recent.until(slot) < line)) ++slot;
  const Range whole = rows[Part::recent].whole_pages({from, slot});
  for (slot = whole.first; group(g).drops && slot < whole.last; ++slot)
    if (!lies_in_past(one, g, l, recent.position(slot)))
      chunk.gone.push_back({&one, recent.position(slot), recent.until(slot)});
  rows[Part::recent].punch(whole);
}

}  // namespace kvlab
