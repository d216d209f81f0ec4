// Sequences come, part and go: add, fork, drop, truncate.

#include <algorithm>

#include "core/cache/impl.h"
#include "core/cache/row_columns.h"

namespace kvlab {

using cache::Sequence;

namespace cache {

namespace {
constexpr size_t kMostRemoved = 256;  // ranges remembered; beyond, the oldest grow together
}  // namespace

void Sequence::remember_removed(int32_t position, int32_t until) {
  // A cut at n with position < n <= until wants the row back.
  const Range cuts{int64_t{position} + 1, int64_t{until} + 1};
  if (cuts.size() <= 0) return;
  const auto begin = std::ranges::lower_bound(removed, cuts.first, {}, &Range::last);
  auto end = begin;
  Range whole = cuts;
  for (; end != removed.end() && end->first <= cuts.last; ++end) {
    whole.first = std::min(whole.first, end->first);
    whole.last = std::max(whole.last, end->last);
  }
  if (begin == end) {
    removed.insert(begin, whole);
  } else {
    *begin = whole;
    removed.erase(begin + 1, end);
  }
  if (removed.size() <= kMostRemoved) return;
  removed[0].last = removed[1].last;
  removed.erase(removed.begin() + 1);
}

void Sequence::count_tables() {
  table_bytes = 0;
  for (const RowList& rows : lists)
    for (const PageList& pages : rows.part) table_bytes += pages.table_bytes();
}

}  // namespace cache

Sequence& cache::Impl::sequence(SeqId id, std::string_view call) {
  const auto found = sequences.find(static_cast<int64_t>(id));
  KVLAB_REQUIRE(found != sequences.end(), "E_SEQUENCE", "cache: ", call, ": there is no sequence ",
                static_cast<int64_t>(id), " (", sequences.size(), " live, ids below ", next_id,
                ")");
  return *found->second;
}

SeqId cache::Impl::adopt(std::unique_ptr<Sequence> one) {
  one->count_tables();
  const auto id = static_cast<SeqId>(next_id);
  one->id = id;
  one->open = -1;
  const int64_t more = one->table_bytes + layers.state_bytes;
  try {
    store.settle_account(account() + more);  // E_FULL
  } catch (...) {
    one.reset();
    store.trim();
    store.settle_account(account());
    throw;
  }
  sequences.emplace(next_id++, std::move(one));
  return id;
}

std::unique_ptr<Sequence> cache::Impl::make_sequence() {
  auto one = std::make_unique<Sequence>();
  one->lists = store.make_lists();
  for (const cache::StateOf& state : layers.states)
    one->states.emplace_back(static_cast<size_t>(state.bytes), u8{0});
  return one;
}

SeqId cache::Impl::add() { return adopt(make_sequence()); }

SeqId cache::Impl::fork(SeqId id) {
  Sequence& from = sequence(id, "fork");
  require_closed(from, "fork");
  auto one = std::make_unique<Sequence>();
  one->seen = from.seen;
  one->encoder_seen = from.encoder_seen;
  one->states = from.states;
  one->removed = from.removed;
  one->rewritten = from.rewritten;
  one->flagged = from.flagged;
  one->lists = store.fork(from.lists);
  return adopt(std::move(one));
}

void cache::Impl::drop(SeqId id) {
  require_closed(sequence(id, "drop"), "drop");
  engine->sync();
  sequences.erase(static_cast<int64_t>(id));
  store.trim();
  if (sequences.empty()) store.release_deferred();
  store.settle_account(account());
}

// ---- truncate ----

namespace {

/// What truncating one list to positions below n takes away.
struct Cut {
  int64_t past = 0, recent = 0, first = 0;  // slots that stay end here
  int64_t hidden = 0;                       // past slots from here on give way to their exact rows
};

[[noreturn]] void cannot_cut(const Sequence& one, int64_t n, const std::string& why) {
  fail("E_TRUNCATE", "cache: sequence ", static_cast<int64_t>(one.id), " of ", one.seen,
       " tokens cannot be truncated to ", n, ": ", why, "; fork it before instead");
}

}  // namespace

/// Slots of the past that a cache which never saw position n would still hold encoded.
int64_t cache::Impl::cut_past(const Sequence& one, int g, int l, int64_t n) const {
  const Group& rules = group(g);
  const RowList& rows = list(one, g, l);
  cache::RowColumns past(page(g, Part::past), rows[Part::past].view(), offset_of(g, Part::past));
  if (rules.direct) return past.lower_bound(n);
  cache::RowColumns recent(page(g, Part::recent), rows[Part::recent].view(),
                           offset_of(g, Part::recent));
  const Range exact = rows[Part::recent].slots();
  const auto has_exact = [&](int32_t p) {
    const int64_t slot = recent.lower_bound(p);
    return slot < exact.last && recent.position(slot) == p;
  };
  const Range slots = rows[Part::past].slots();
  int64_t end = slots.last;
  for (; end - rules.tile >= slots.first; end -= rules.tile) {
    const int64_t first = end - rules.tile;
    const int32_t newest = past.position(end - 1);
    if (newest + rules.lag < n) break;  // encoded before position n - 1 was read
    bool needs_exact = false, is_cut = false;
    for (int64_t slot = first; slot < end; ++slot) {
      const int32_t p = past.position(slot);
      is_cut |= p >= n;
      needs_exact |= p < n && past.until_or_forever(slot) >= n && !has_exact(p);
    }
    if (!needs_exact) continue;
    if (!rules.lossy && !is_cut) break;          // reads the same anyway
    if (!rules.lossy && rules.tile == 1) break;  // likewise
    cannot_cut(one, n,
               "layer " + std::to_string(rules.layer) + " has encoded position " +
                   std::to_string(past.position(first)) +
                   " since, and its exact row is gone (rollback " + std::to_string(where.rollback) +
                   ")");
  }
  return end;
}

void cache::Impl::check_cut(const Sequence& one, int64_t n) const {
  if (!composition.capabilities.truncatable) cannot_cut(one, n, "the method does not allow it");
  if (one.rewritten >= n)
    cannot_cut(one, n,
               "states or columns were written up to position " + std::to_string(one.rewritten));
  for (const Range& cuts : one.removed)
    if (cuts.first <= n && n < cuts.last)
      cannot_cut(
          one, n,
          "a row below it that position " + std::to_string(n) + " would read has been dropped");
}

void cache::Impl::truncate(SeqId id, int64_t n) {
  Sequence& one = sequence(id, "truncate");
  require_closed(one, "truncate");
  KVLAB_REQUIRE(n >= 0 && n <= one.seen, "E_POSITION", "cache: truncate: sequence ",
                static_cast<int64_t>(id), " has seen ", one.seen, " tokens, not ", n);
  if (n == one.seen) return;
  check_cut(one, n);
  engine->sync();
  std::vector<int64_t> ends;
  Demand demand = store.demand();
  for (int g = 0; g < static_cast<int>(layers.groups.size()); ++g)
    for (int l = 0; l < group(g).lists && !group(g).cross; ++l) {
      ends.push_back(cut_past(one, g, l, n));
      if (group(g).direct) continue;
      const PageList& recent = list(one, g, l)[Part::recent];
      demand.pages[static_cast<size_t>(store.pool_of(static_cast<size_t>(g), Part::recent))] +=
          copied_pages(recent, recent.slots());
    }
  store.reserve(demand);
  size_t i = 0;
  for (int g = 0; g < static_cast<int>(layers.groups.size()); ++g)
    for (int l = 0; l < group(g).lists && !group(g).cross; ++l) cut_list(one, g, l, n, ends[i++]);
  one.seen = n;
  std::erase_if(one.removed, [&](const Range& cuts) { return cuts.first > n; });
  one.count_tables();
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer) moved(layer);
  store.trim();
  store.settle_account(account());
}

void cache::Impl::cut_list(Sequence& one, int g, int l, int64_t n, int64_t past_end) {
  const Group& rules = group(g);
  RowList& rows = list(one, g, l);
  PageList &past = rows[Part::past], &recent = rows[Part::recent];
  if (rules.first > 0) {
    rows[Part::first].truncate(std::min(n, rules.first));
  }
  if (!rules.direct) {
    const int64_t offset = offset_of(g, Part::recent);
    {
      cache::RowColumns encoded(page(g, Part::past), past.view(), offset_of(g, Part::past));
      const int64_t cut =
          cache::RowColumns(page(g, Part::recent), recent.view(), offset).lower_bound(n);
      if (cut > recent.slots().first) {
        recent.truncate(cut);
      } else {  // the exact rows left long ago: the list goes on where the past ends
        recent.clear();
        recent.start_at(rules.drops ? 0 : std::max<int64_t>(n - offset, 0));
      }
      recent.own(recent.slots());
      cache::RowColumns exact(page(g, Part::recent), recent.view(), offset);
      for (int64_t slot = past_end; slot < past.slots().last; ++slot) {
        const int32_t p = encoded.position(slot);
        const int64_t mine = exact.lower_bound(p);
        if (mine < recent.slots().last && exact.position(mine) == p)
          exact.until(mine) = encoded.until_or_forever(slot);
      }
      const int64_t settled =
          past_end > past.slots().first ? encoded.position(past_end - 1) + 1 : 0;
      rows.pending = exact.lower_bound(settled);
    }
    // Exact forms that could not come back stay where they are, below n.
    past_end = std::min(
        past_end, cache::RowColumns(page(g, Part::past), past.view(), offset_of(g, Part::past))
                      .lower_bound(n));
  }
  past.truncate(past_end);
  for (size_t part = 0; part < kParts; ++part) {  // counted again when the next pass ends
    rows.judged[part] = rows.part[part].slots().first;
    rows.dead[part] = 0;
  }
}

}  // namespace kvlab
