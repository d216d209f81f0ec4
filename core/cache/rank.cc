// Budgets: rows are scored, lists are told how many to keep, the lowest go.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/cache/impl.h"
#include "core/cache/live_rows.h"
#include "core/cache/row_columns.h"

namespace kvlab {

using cache::Dropped;
using cache::LiveView;
using cache::Sight;

namespace {

constexpr int32_t kNever = -1;  // `until` of a row that no query may read again

/// One layer's rows and what a selector thinks of them.
struct Scored {
  int layer = 0;
  std::unique_ptr<LiveView> view{};
  std::vector<float> scores{};
  Ragged positions{};
};

/// Rows [first, last) of a list that go: the lowest unprotected ones, so that `keep` stay.
std::vector<int64_t> lowest(const Scored& scored, Range rows, const Selection& selection,
                            int64_t newest, int64_t keep) {
  const auto* positions = scored.positions.values.as<const int32_t>();
  std::vector<int64_t> open;
  for (int64_t row = rows.first; row < rows.last; ++row)
    if (positions[row] >= selection.sinks && positions[row] <= newest - selection.recent)
      open.push_back(row);
  const int64_t count =
      std::clamp<int64_t>(rows.size() - std::max<int64_t>(keep, 0), 0, std::ssize(open));
  const auto goes_before = [&](int64_t a, int64_t b) {
    const float score_a = scored.scores[at(a)], score_b = scored.scores[at(b)];
    return score_a != score_b ? score_a < score_b : positions[a] > positions[b];
  };
  std::nth_element(open.begin(), open.begin() + count, open.end(), goes_before);
  open.resize(at(count));
  std::ranges::sort(open);
  return open;
}

}  // namespace

void cache::Impl::rank(ChunkEnd why) {
  for (int s = 0; s < static_cast<int>(composition.selects.size()); ++s)
    if (composition.selects[at(s)]->due(why)) rank_by(s);
}

void cache::Impl::rank_by(int s) {
  const Select& select = *composition.selects[at(s)];
  std::vector<Scored> all;
  std::vector<int> ranked;
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer) {
    const cache::LayerPlan& plan = layers.plans[at(layer)];
    if (plan.selections.empty() || plan.main < 0 || !plan.selections[at(s)].drops) continue;
    ranked.push_back(layer);
    Scored& one = all.emplace_back(Scored{.layer = layer});
    one.view = std::make_unique<LiveView>(*this, layer, s, chunk.sequences, Sight::settled);
    one.positions = one.view->positions();
    one.scores.resize(at(std::max<int64_t>(one.positions.indptr.back(), 1)), 0.0F);
    Ragged scores{one.positions.indptr,
                  dense_view(one.scores.data(), Dtype::f32, {one.positions.indptr.back()})};
    select.score(*one.view, scores);
    one.view->keep_writes();
    for (int64_t row = 0; row < one.positions.indptr.back(); ++row)
      KVLAB_REQUIRE(!std::isnan(one.scores[at(row)]), "E_NONFINITE", "selector ", s, ": layer ",
                    layer, ": the score of position ", one.positions.values.as<int32_t>()[row],
                    " is not a number");
  }
  for (int64_t i = 0; i < std::ssize(chunk.sequences) && !all.empty(); ++i) {
    std::vector<int64_t> budgets, first_list{0};
    std::vector<std::vector<int64_t>> indptrs;
    std::vector<Ragged> scores;
    for (Scored& one : all) {
      const int64_t lists = one.view->lists_per_sequence();
      const auto mine = one.positions.indptr.subspan(at(i * lists), at(lists + 1));
      auto& indptr = indptrs.emplace_back(mine.begin(), mine.end());
      for (int64_t& value : indptr) value -= mine.front();
      for (int64_t l = 0; l < lists; ++l) budgets.push_back(mine[at(l + 1)] - mine[at(l)]);
      first_list.push_back(std::ssize(budgets));
      scores.push_back(
          {indptr, dense_view(one.scores.data() + mine.front(), Dtype::f32, {indptr.back()})});
    }
    for (size_t k = 0; k < scores.size(); ++k) scores[k].indptr = indptrs[k];
    Budgets asked{.rows = budgets,
                  .first_list = first_list,
                  .scores = scores,
                  .layers = ranked,
                  .sequence = chunk.ids[at(i)],
                  .tokens = chunk.spans[at(i)].last};
    select.allocate(shape, asked);
    for (size_t k = 0; k < all.size(); ++k) {
      const Scored& one = all[k];
      const int64_t lists = one.view->lists_per_sequence();
      const Selection& selection = layers.plans[at(one.layer)].selections[at(s)];
      for (int64_t l = 0; l < lists; ++l) {
        const Range rows{one.positions.indptr[at(i * lists + l)],
                         one.positions.indptr[at(i * lists + l + 1)]};
        for (const int64_t row : lowest(one, rows, selection, chunk.spans[at(i)].last - 1,
                                        budgets[at(first_list[k] + l)]))
          for (const cache::Place& place : one.view->places(row))
            drop_row(*chunk.sequences[at(i)], layers.plans[at(one.layer)].main, place.list,
                     place.part, place.slot);
      }
    }
  }
}

void cache::Impl::drop_row(Sequence& one, int g, int l, Part part, int64_t slot) {
  PageList& pages = list(one, g, l)[part];
  pages.own({slot, slot + 1});
  cache::RowColumns columns(page(g, part), pages.view(), offset_of(g, part));
  int32_t& until = columns.until(slot);
  chunk.dropped[{&one, list_number(g, l)}].push_back({part, slot, columns.position(slot), until});
  until = kNever;
}

void cache::Impl::undo_rank() {
  for (auto& [of, rows] : chunk.dropped) {
    RowList& lists = of.first->lists[at(of.second)];
    const int g = group_of_list(of.second);
    for (const Dropped& row : rows)
      cache::RowColumns(page(g, row.part), lists[row.part].view(), 0).until(row.slot) = row.until;
  }
  chunk.dropped.clear();
}

std::vector<int64_t> cache::Impl::dropped_slots(Sequence& one, int g, int l, Part part) const {
  std::vector<int64_t> slots;
  const auto found = chunk.dropped.find({&one, list_number(g, l)});
  if (found == chunk.dropped.end()) return slots;
  for (const Dropped& row : found->second)
    if (row.part == part) slots.push_back(row.slot);
  std::ranges::sort(slots);
  return slots;
}

int cache::Impl::group_of_list(int list) const {
  int g = 0;
  while (store.first_list(at(g + 1)) <= at(list)) ++g;
  return g;
}

/// Column values that selectors wrote go to where the rows now lie.
bool cache::Impl::keep_columns(Sequence& one) {
  const auto lists = static_cast<int64_t>(store.lists_per_sequence());
  bool any = false;
  for (auto found = chunk.columns.lower_bound({one.open * lists, 0});
       found != chunk.columns.end() && found->first.first < (one.open + 1) * lists; ++found) {
    const auto& [key, writes] = *found;
    if (writes.positions.empty()) continue;
    any = true;
    const int number = static_cast<int>(key.first % lists), g = group_of_list(number);
    const cache::ColumnOf& column = layers.plans[at(group(g).layer)].columns[at(key.second)];
    const int64_t size = size_of(column.column.dtype);
    RowList& rows = one.lists[at(number)];
    for (const Part part : {Part::first, Part::past, Part::recent}) {
      const PageLayout& layout = page(g, part);
      if (layout.bytes == 0) continue;
      rows[part].own(rows[part].slots());
      ListView view = rows[part].view();
      if (part == Part::recent) view.first = std::max(view.first, rows.pending);
      cache::RowColumns columns(layout, view, offset_of(g, part));
      const int index = layout.column(column.page_name);
      size_t next = 0;  // both rise; rows that are gone are passed over
      for (int64_t slot = view.first; slot < view.last; ++slot) {
        if (columns.is_hole(slot)) continue;
        const int32_t p = columns.position(slot);
        while (next < writes.positions.size() && writes.positions[next] < p) ++next;
        if (next == writes.positions.size()) break;
        if (writes.positions[next] == p)
          std::memcpy(column_at(layout, view, index, slot),
                      writes.values.data() + static_cast<int64_t>(next) * size, at(size));
      }
    }
  }
  return any;
}

}  // namespace kvlab
