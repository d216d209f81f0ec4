// Bytes, read sets, states: what is held, and where.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "core/cache/appended_rows.h"
#include "core/cache/impl.h"
#include "core/cache/row_columns.h"

namespace kvlab {

int64_t cache::Impl::account() const {
  int64_t bytes = 0;
  for (const auto& [id, one] : sequences) bytes += one->table_bytes + layers.state_bytes;
  return bytes;
}

Bytes cache::Impl::bytes(int layer) {
  std::vector<const RowLists*> lists;
  for (const auto& [id, one] : sequences) lists.push_back(&one->lists);
  const StoreBytes rows = store.count(lists, layer);
  Bytes out{.payload = rows.payload, .metadata = rows.metadata, .residual = rows.residual};
  if (layer >= 0) {
    int64_t of_layer = 0;
    for (const cache::StateOf& state : layers.states)
      if (state.layer == layer) of_layer += state.bytes;
    out.state = of_layer * std::ssize(sequences);
    out.committed = rows.pages + rows.tables + out.state;
    return out;
  }
  const ArenaBytes arena = store.arena_bytes();
  out.state = layers.state_bytes * std::ssize(sequences);
  out.committed = arena.committed + arena.charged;
  out.reserved = arena.reserved;
  note_scratch();
  out.scratch = scratch;
  out.scratch_peak = scratch_peak;
  return out;
}

void cache::Impl::note_scratch() {
  scratch = engine->scratch_bytes() + rows->held() +
            static_cast<int64_t>(sizeof(float)) *
                static_cast<int64_t>(scratch_out.capacity() + scratch_lse.capacity() +
                                     observed_lse.capacity());
  for (const auto& states : chunk.states)
    for (const cache::Bytes_& state : states) scratch += std::ssize(state);
  scratch_peak = std::max(scratch_peak, scratch);
}

TensorView cache::Impl::staged_state(Sequence& one, int s) {
  cache::Bytes_& staged = chunk.states[at(one.open)][at(s)];
  const cache::StateOf& state = layers.states[at(s)];
  if (staged.empty()) staged = one.states[at(s)];
  TensorView view{.data = staged.data(),
                  .dtype = state.spec.dtype,
                  .device = engine->device(),
                  .dims = static_cast<int>(state.spec.sizes.size())};
  int64_t stride = 1;
  for (int i = view.dims - 1; i >= 0; --i) {
    view.sizes[at(i)] = state.spec.sizes[at(i)];
    view.strides[at(i)] = stride;
    stride *= view.sizes[at(i)];
  }
  return view;
}

/// Positions of rows the next query may read, each once.
std::vector<int32_t> cache::Impl::living_positions(int layer, SeqId id, int l) {
  const cache::LayerPlan& plan = plan_of(layer, "positions");
  const Sequence& one = sequence(id, "positions");
  KVLAB_REQUIRE(plan.main >= 0, "E_LAYER", "cache: positions: layer ", layer, " stores no rows");
  KVLAB_REQUIRE(l >= 0 && l < group(plan.main).lists, "E_SHAPE", "cache: positions: layer ", layer,
                " has lists below ", group(plan.main).lists, ", not ", l);
  engine->sync();
  const RowList& rows = list(one, plan.main, l);
  std::vector<int32_t> out;
  for (const Part part : {Part::first, Part::past, Part::recent}) {
    const PageLayout& layout = page(plan.main, part);
    if (layout.bytes == 0) continue;
    ListView view = rows[part].view();
    if (part == Part::recent) view.first = std::max(view.first, rows.pending);
    cache::RowColumns columns(layout, view, offset_of(plan.main, part));
    for (int64_t slot = view.first; slot < view.last; ++slot)
      if (!columns.is_hole(slot) && columns.until_or_forever(slot) >= one.seen)
        out.push_back(columns.position(slot));
  }
  return out;
}

std::vector<std::span<const u8>> cache::Impl::read_set(int layer, std::span<const SeqId> of) {
  const cache::LayerPlan& plan = plan_of(layer, "read_set");
  std::vector<std::span<const u8>> out;
  if (plan.source < 0) return out;
  const int g = layers.plans[at(plan.source)].main;
  for (const SeqId id : of) {
    const Sequence& one = sequence(id, "read_set");
    for (int l = 0; l < group(g).lists; ++l)
      for (const Part part : {Part::first, Part::past, Part::recent}) {
        const PageLayout& layout = page(g, part);
        if (layout.bytes == 0) continue;
        const ListView view = list(one, g, l)[part].view();
        for (int64_t k = view.first / layout.page_tokens; k * layout.page_tokens < view.last; ++k) {
          const u8* const base = view.page(k);
          if (base == nullptr) continue;
          if (!out.empty() && out.back().data() + out.back().size() == base)
            out.back() = {out.back().data(), out.back().size() + at(layout.bytes)};
          else
            out.emplace_back(base, at(layout.bytes));
        }
      }
  }
  return out;
}

void cache::Impl::prefetch(int layer, std::span<const SeqId> of) {
  // On the CPU rows lie in memory unless the system has swapped them out: have them back in time.
  const auto system_page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (const std::span<const u8>& bytes : read_set(layer, of)) {
    const size_t before = reinterpret_cast<uintptr_t>(bytes.data()) % system_page;
    auto* const first = const_cast<u8*>(bytes.data()) - before;
    madvise(first, bytes.size() + before, MADV_WILLNEED);
  }
}

}  // namespace kvlab
