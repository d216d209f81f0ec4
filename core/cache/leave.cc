// When a pass has ended: rows nobody may read again leave, and memory returns.

#include <algorithm>

#include "core/cache/impl.h"
#include "core/cache/row_columns.h"

namespace kvlab {

void cache::Impl::leave(Sequence& one, int g) {
  const Group& rules = group(g);
  for (int l = 0; l < rules.lists; ++l) {
    if (!rules.direct) leave_recent(one, g, l);
    if (!rules.drops) continue;
    if (rules.first > 0) bury(one, g, l, Part::first);
    bury(one, g, l, Part::past);
    if (rules.mixed) bury_recent(one, g, l);
  }
}

bool cache::Impl::lies_in_past(const Sequence& one, int g, int l, int32_t position) const {
  const ListView past = list(one, g, l)[Part::past].view();
  cache::RowColumns rows(page(g, Part::past), past, offset_of(g, Part::past));
  const int64_t slot = rows.lower_bound(position);
  return slot < past.last && rows.position(slot) == position;
}

/// Rows at the front that lie in the past as well, or are dead, and that no rollback may want.
void cache::Impl::leave_recent(Sequence& one, int g, int l) {
  const Group& rules = group(g);
  RowList& rows = list(one, g, l);
  PageList& recent = rows[Part::recent];
  const int64_t line = exact_line(one.seen);
  const Range slots = recent.slots();
  cache::RowColumns columns(page(g, Part::recent), recent.view(), offset_of(g, Part::recent));
  int64_t slot = slots.first;
  for (; slot < slots.last; ++slot) {
    if (rules.cross && slot < rows.pending) continue;
    if (columns.is_hole(slot)) continue;
    if (rules.cross || columns.until(slot) >= line) break;
    if (!rules.drops || columns.until(slot) < 0) continue;
    const int32_t p = columns.position(slot);
    const bool moved_on = slot < rows.pending && lies_in_past(one, g, l, p);
    if (!moved_on) one.remember_removed(p, columns.until(slot));
  }
  recent.trim(slot);
  rows.pending = std::max(rows.pending, slot);
}

/// Counts deaths that are certain by now and gives memory of the dead back: whole pages, and, where
/// enough rows of a list are dead, the space between the living.
void cache::Impl::bury(Sequence& one, int g, int l, Part part) {
  const Group& rules = group(g);
  RowList& rows = list(one, g, l);
  PageList& pages = rows[part];
  const size_t p = index_of(part);
  const int64_t unit = part == Part::past ? rules.tile : 1, line = death_line(one);
  rows.judged[p] = std::max(rows.judged[p], pages.slots().first);
  std::vector<int64_t> touched;  // pages with new dead
  const auto note = [&](int64_t slot) {
    rows.dead[p] += unit;
    const int64_t k = slot / pages.page_tokens();
    if (touched.empty() || touched.back() != k) touched.push_back(k);
  };
  {
    cache::RowColumns columns(page(g, part), pages.view(), offset_of(g, part));
    const auto is_dead = [&](int64_t first) {
      for (int64_t slot = first; slot < first + unit; ++slot)
        if (columns.until(slot) >= line) return false;
      return true;
    };
    // Dropped by rank, where the judge has been: the last row of a unit to die reports it.
    int64_t reported = -1;
    for (const int64_t row : dropped_slots(one, g, l, part)) {
      const int64_t first = row / unit * unit;
      if (first >= rows.judged[p] || first == reported || columns.is_hole(first)) continue;
      if (is_dead(first)) note(first), reported = first;
    }
    int64_t& slot = rows.judged[p];
    for (; slot + unit <= pages.slots().last; slot += unit) {
      if (columns.is_hole(slot)) continue;
      if (columns.position(slot + unit - 1) + rules.longest - 1 >= line) break;
      if (is_dead(slot)) note(slot);
    }
  }
  if (rows.dead[p] == 0) return;
  free_dead_pages(one, g, l, part, touched);
  const auto limit = where.compact_share * static_cast<double>(pages.size());
  if (part == Part::past && (unit > 1 || rules.row_wise) &&
      static_cast<double>(rows.dead[p]) > limit && compact(one, g, l, part, pages.slots().first))
    rows.dead[p] = 0;
}

/// Pages among `touched` whose rows are all dead.
void cache::Impl::free_dead_pages(Sequence& one, int g, int l, Part part,
                                  std::vector<int64_t>& touched) {
  RowList& rows = list(one, g, l);
  PageList& pages = rows[part];
  if (pages.is_contiguous()) return;
  const size_t p = index_of(part);
  const int64_t tokens = pages.page_tokens(), line = death_line(one);
  std::ranges::sort(touched, std::greater<>());  // from the end: removing one moves later ones
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const int64_t k : touched) {
    const Range slots{std::max(k * tokens, pages.slots().first), (k + 1) * tokens};
    if (slots.last > std::min(rows.judged[p], pages.slots().last)) continue;
    cache::RowColumns columns(page(g, part), pages.view(), offset_of(g, part));
    bool all_dead = true;
    for (int64_t slot = slots.first; slot < slots.last && all_dead; ++slot)
      all_dead = columns.until(slot) < line;
    if (!all_dead) continue;
    for (int64_t slot = slots.first; slot < slots.last; ++slot)
      one.remember_removed(columns.position(slot), columns.until(slot));
    rows.dead[p] -= slots.size();
    if (part == Part::first) {
      pages.punch(slots);
    } else {
      pages.remove_page(k);
      rows.judged[p] -= tokens;
    }
    moved(group(g).layer);
  }
}

/// Dead rows between living ones that wait for their tile or their age.
void cache::Impl::bury_recent(Sequence& one, int g, int l) {
  RowList& rows = list(one, g, l);
  const Range slots{rows.pending, rows[Part::recent].slots().last};
  cache::RowColumns columns(page(g, Part::recent), rows[Part::recent].view(),
                            offset_of(g, Part::recent));
  int64_t dead = 0;
  for (int64_t slot = slots.first; slot < slots.last; ++slot)
    dead += columns.until(slot) < death_line(one);
  if (static_cast<double>(dead) > where.compact_share * static_cast<double>(slots.size()))
    compact(one, g, l, Part::recent, slots.first);
}

/// Moves what lives down over what is dead, from slot `from` on.  Not while other sequences share
/// the memory: then it waits.
bool cache::Impl::compact(Sequence& one, int g, int l, Part part, int64_t from) {
  const Group& rules = group(g);
  RowList& rows = list(one, g, l);
  PageList& pages = rows[part];
  if (pages.copies({from, pages.slots().last}) > 0) return false;
  const int64_t unit = part == Part::past ? rules.tile : 1, line = death_line(one);
  std::vector<Move> moves;
  int64_t to = from, judged = rows.judged[index_of(part)];
  {
    cache::RowColumns columns(page(g, part), pages.view(), offset_of(g, part));
    for (int64_t slot = from; slot < pages.slots().last; slot += unit) {
      if (slot == rows.judged[index_of(part)]) judged = to;
      bool lives = false;
      for (int64_t s = slot; s < slot + unit; ++s) lives |= columns.until(s) >= line;
      if (!lives) {
        for (int64_t s = slot; s < slot + unit; ++s)
          one.remember_removed(columns.position(s), columns.until(s));
        continue;
      }
      for (int64_t s = slot; s < slot + unit && to != slot; ++s)
        moves.push_back({0, s, to + s - slot});
      to += unit;
    }
  }
  if (rows.judged[index_of(part)] >= pages.slots().last) judged = to;
  if (!moves.empty()) {
    Sequence* const only[] = {&one};
    PartView all;
    view(g, part, only, all);
    all.lists = {pages.view()};
    all.lists_per_sequence = 1;
    engine->move({.from = &all, .to = &all, .moves = moves});
    engine->sync();
  }
  pages.truncate(to);
  rows.judged[index_of(part)] = judged;
  moved(rules.layer);
  return true;
}

}  // namespace kvlab
