// What a call may read: parts as segments, list by list.

#include "core/cache/impl.h"

namespace kvlab {

using cache::Sight;

void cache::Impl::view(int g, Part part, std::span<Sequence* const> of, PartView& out) const {
  const Group& rules = group(g);
  out.page = &page(g, part);
  out.lists_per_sequence = rules.lists;
  out.position_offset = part == Part::past || part == Part::recent ? rules.first : 0;
  out.from_lag = rules.cross ? PartView::kNoFrom : 0;
  out.from_tile = 1;
  out.lists.clear();
  for (const Sequence* one : of)
    for (int l = 0; l < rules.lists; ++l) out.lists.push_back(list(*one, g, l)[part].view());
}

namespace {

/// Narrows the lists of one part to what the queries of the open pass may read of it.
void see_as_pass(const cache::Impl& cache, int g, Part part, std::span<cache::Sequence* const> of,
                 PartView& out) {
  const cache::Group& rules = cache.group(g);
  const bool is_raw = cache.chunk.is_raw(), keeps_raw = cache.keeps_raw(rules);
  // Tiles of this pass are read from their own position on; until then their exact rows are.
  const bool two_forms = part == Part::past && rules.lossy && !rules.direct && !is_raw;
  if (two_forms) out.from_lag = static_cast<int32_t>(rules.lag), out.from_tile = rules.tile;
  size_t i = 0;
  for (const cache::Sequence* one : of)
    for (int l = 0; l < rules.lists; ++l, ++i) {
      ListView& list = out.lists[i];
      if (part == Part::chunk) continue;
      const cache::Mark& mark = cache.mark(*one, g, l);
      if (part == Part::recent) list.first = std::max(list.first, mark.pending);
      if (keeps_raw) list.last = mark.last[index_of(part)];
      list.settled = two_forms ? mark.last[index_of(part)] : list.last;
      if (is_raw) list.grace = static_cast<int32_t>(cache.span(*one).first);
    }
}

}  // namespace

std::vector<Segment> cache::Impl::segments(int layer, std::span<Sequence* const> of,
                                           Sight sight) const {
  const cache::LayerPlan& plan = layers.plans[static_cast<size_t>(layer)];
  const int g = layers.plans[static_cast<size_t>(plan.source)].main;
  std::vector<Segment> out;
  for (const Part part : {Part::first, Part::past, Part::recent, Part::chunk}) {
    if (page(g, part).bytes == 0) continue;
    if (part == Part::chunk && (sight == Sight::settled || !keeps_raw(group(g)))) continue;
    Segment segment{.layout = &plan.layout,
                    .stored = &layers.plans[static_cast<size_t>(plan.source)].layout};
    if (plan.layout.rebuilds) segment.project = composition.project.get();
    view(g, part, of, segment.rows);
    if (sight == Sight::pass) see_as_pass(*this, g, part, of, segment.rows);
    if (sight == Sight::settled && part == Part::recent)
      for (size_t i = 0; i < segment.rows.lists.size(); ++i) {
        const auto lists = static_cast<size_t>(group(g).lists);
        ListView& recent = segment.rows.lists[i];
        recent.first =
            std::max(recent.first, list(*of[i / lists], g, static_cast<int>(i % lists)).pending);
      }
    const bool is_empty = std::ranges::all_of(
        segment.rows.lists, [](const ListView& list) { return list.first >= list.last; });
    if (!is_empty || part == Part::past) out.push_back(std::move(segment));
  }
  return out;
}

}  // namespace kvlab
