// What a pass may need at most, worked out before it begins: layers are settled one after another.

#include <algorithm>

#include "core/cache/impl.h"
#include "core/cache/row_columns.h"

namespace kvlab {

/// What one list may take at most: as if every row were kept.
void cache::Impl::demand_of_list(const Sequence& one, Range pass, int g, int l, Demand& demand,
                                 std::vector<int64_t>& passing) const {
  const Group& rules = group(g);
  auto& rows = const_cast<RowList&>(list(one, g, l));
  const int64_t tokens = page(g, Part::past).page_tokens;
  const int64_t in_first = std::clamp<int64_t>(rules.first - pass.first, 0, pass.size());
  const int64_t fresh = pass.size() - in_first;
  const bool is_written = rules.drops || !layers.plans[at(rules.layer)].columns.empty();
  int64_t pages = 0;
  const auto stays = [&](Part part, int64_t count) {
    if (const int pool = store.pool_of(at(g), part); pool >= 0) demand.pages[at(pool)] += count;
    pages += count;
  };
  const auto passes = [&](Part part, int64_t count) {
    passing[at(store.pool_of(at(g), part))] += count;
    pages += count;
  };
  if (in_first > 0) stays(Part::first, rows[Part::first].growth(in_first));
  int64_t aged = rules.direct ? fresh : 0;  // rows that enter the past
  if (!rules.direct) {
    const int64_t taken = rows[Part::recent].growth(fresh);
    // Rows that wait for a tile may keep every page between them.
    const int64_t kept = rules.drops && rules.tile > 1
                             ? taken
                             : (rules.lag + where.rollback + rules.tile) / tokens + 4;
    stays(Part::recent, std::min(taken, kept));
    if (taken > kept) passes(Part::recent, taken - kept);
    aged = due_at_most(rules, rows, g, pass.last - 1, fresh);
    const Range written{rows.pending, rows[Part::recent].slots().last};
    if (!is_written) stays(Part::recent, copied_pages(rows[Part::recent], written));
  }
  stays(Part::past, rows[Part::past].growth(aged));
  if (chunk.read == ReadPolicy::raw_chunk && !rules.exact_entry && !rules.cross)
    passes(Part::chunk, pass.size() / tokens + 2);
  if (is_written)
    for (const Part part : {Part::first, Part::past, Part::recent})
      stays(part, copied_pages(rows[part], rows[part].slots()));
  if (PageList& past = rows[Part::past]; past.is_contiguous()) {
    const Range slots = past.slots();
    const Range copied{is_written ? slots.first : slots.last, slots.last + aged};
    if (aged > 0 || past.copies(copied) > 0) demand.contiguous.push_back({&past, aged, copied});
  }
  demand.bytes += pages * static_cast<int64_t>(sizeof(int32_t));
}

int64_t cache::Impl::copied_pages(const PageList& list, Range slots) {
  return list.is_contiguous() || list.pool() == nullptr
             ? 0
             : list.copies(slots) / list.pool()->stride();
}

/// Rows of a list that may enter the past until `newest`, `fresh` of them new.
int64_t cache::Impl::due_at_most(const Group& rules, const RowList& rows, int g, int64_t newest,
                                 int64_t fresh) const {
  const PageList& recent = rows[Part::recent];
  int64_t count = std::max<int64_t>(fresh - rules.lag, 0);
  cache::RowColumns columns(page(g, Part::recent), recent.view(), offset_of(g, Part::recent));
  for (int64_t slot = rows.pending; slot < recent.slots().last; ++slot, ++count)
    if (!rules.cross && columns.position(slot) + rules.lag > newest) break;
  return count / rules.tile * rules.tile;
}

Demand cache::Impl::demand_of_pass() {
  Demand demand = store.demand();
  if (chunk.replaces()) return demand_of_replacing();
  // Layers are settled one after another: what only passes is there from a layer's append to the
  // last attend of its rows.
  std::vector<int64_t> most = demand.pages, alive = demand.pages;
  std::vector<std::pair<int, std::vector<int64_t>>> passing;  // last reader, pages per pool
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer) {
    if (!appends(layer)) continue;
    std::erase_if(passing, [&](const auto& one) {
      if (one.first >= layer) return false;
      for (size_t pool = 0; pool < alive.size(); ++pool) alive[pool] -= one.second[pool];
      return true;
    });
    const cache::LayerPlan& plan = layers.plans[at(layer)];
    std::vector<int64_t> pages(demand.pages.size(), 0);
    for (const int g : {plan.main, plan.all})
      for (size_t i = 0; g >= 0 && i < chunk.sequences.size(); ++i)
        for (int l = 0; l < group(g).lists; ++l)
          demand_of_list(*chunk.sequences[i], chunk.spans[i], g, l, demand, pages);
    for (size_t pool = 0; pool < alive.size(); ++pool) {
      alive[pool] += pages[pool];
      most[pool] = std::max(most[pool], demand.pages[pool] + alive[pool]);
    }
    passing.emplace_back(plan.last_reader, std::move(pages));
  }
  demand.pages = std::move(most);
  return demand;
}

/// Shared pages that may have to be copied before they are written.
Demand cache::Impl::demand_of_replacing() {
  Demand demand = store.demand();
  for (Sequence* one : chunk.sequences)
    for (int g = 0; g < static_cast<int>(layers.groups.size()); ++g)
      for (int l = 0; l < group(g).lists; ++l)
        for (const Part part : {Part::first, Part::past, Part::recent}) {
          PageList& pages = list(*one, g, l)[part];
          if (pages.is_contiguous())
            demand.contiguous.push_back({&pages, 0, pages.slots()});
          else if (pages.pool() != nullptr)
            demand.pages[at(store.pool_of(at(g), part))] += copied_pages(pages, pages.slots());
        }
  return demand;
}

}  // namespace kvlab
