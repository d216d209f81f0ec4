// Rows leave a cache: a range of positions, or a whole sequence.

#include <algorithm>
#include <cstring>

#include "core/artifact.h"
#include "core/cache/parcel.h"
#include "core/cache/row_columns.h"

namespace kvlab {

using cache::kTravelling;
using cache::ListRows;
using cache::Piece;

namespace {

/// Slots of one list, part by part, and what the manifest says of them.
struct ChosenRows {
  std::array<std::vector<int64_t>, 3> slots{};
  ListRows rows{};

  void count() {
    for (size_t part = 0; part < kTravelling.size(); ++part)
      rows.rows[part] = std::ssize(slots[part]);
  }
};

/// Everything a list holds.  Holes stay in `first`, where slots are positions, and go elsewhere.
ChosenRows whole_list(const cache::Impl& cache, const cache::Sequence& one, int g, int l) {
  ChosenRows out;
  const RowList& rows = cache.list(one, g, l);
  for (const Part part : kTravelling) {
    const PageLayout& page = cache.page(g, part);
    if (page.bytes == 0) continue;
    cache::RowColumns columns(page, rows[part].view(), cache.offset_of(g, part));
    const Range slots = rows[part].slots();
    for (int64_t slot = slots.first; slot < slots.last; ++slot) {
      if (part != Part::first && columns.is_hole(slot)) continue;
      out.slots[index_of(part)].push_back(slot);
      out.rows.pending += part == Part::recent && slot < rows.pending;
    }
  }
  if (!cache.group(g).drops && !cache.group(g).direct)
    out.rows.recent_slot = rows[Part::recent].slots().first;
  out.count();
  return out;
}

/// The rows of some positions that the next query may read, each once; in `first`, where slots are
/// positions, all of them.
ChosenRows living_rows(const cache::Impl& cache, const cache::Sequence& one, int g, int l,
                       Range positions) {
  ChosenRows out;
  const cache::Group& group = cache.group(g);
  const RowList& rows = cache.list(one, g, l);
  for (const Part part : kTravelling) {
    const PageLayout& page = cache.page(g, part);
    if (page.bytes == 0) continue;
    const ListView view = rows[part].view();
    cache::RowColumns columns(page, view, cache.offset_of(g, part));
    const int64_t tile = part == Part::past ? group.tile : 1;
    int64_t slot = part == Part::recent ? std::max(view.first, rows.pending) : view.first;
    for (; slot < view.last; slot += tile) {
      if (part == Part::first) {
        if (slot >= positions.first && slot < positions.last) out.slots[0].push_back(slot);
        continue;
      }
      if (columns.is_hole(slot)) continue;
      bool lives = false;
      int64_t inside = 0;
      for (int64_t s = slot; s < slot + tile; ++s) {
        const int32_t p = columns.position(s);
        inside += p >= positions.first && p < positions.last;
        lives |= columns.until_or_forever(s) >= one.seen;
      }
      if (inside == 0 || !lives) continue;
      KVLAB_REQUIRE(inside == tile, "E_ALIGN", "cache: export_rows: layer ", group.layer,
                    ": positions ", columns.position(slot), " to ",
                    columns.position(slot + tile - 1), " are encoded together, but the range [",
                    positions.first, ", ", positions.last, ") cuts them; take whole tiles");
      for (int64_t s = slot; s < slot + tile; ++s) out.slots[index_of(part)].push_back(s);
    }
  }
  if (!group.drops && !group.direct)
    out.rows.recent_slot = out.slots[2].empty() ? std::max<int64_t>(positions.last - group.first, 0)
                                                : out.slots[2].front();
  out.count();
  return out;
}

/// One part of a group: all its lists' rows, piece by piece.
void pack_part(const cache::Impl& cache, const cache::Sequence& one, int g, Part part,
               std::span<const ChosenRows> lists, std::vector<Tensor>& tensors) {
  const PageLayout& page = cache.page(g, part);
  int64_t rows = 0;
  for (const ChosenRows& list : lists) rows += list.rows.rows[index_of(part)];
  if (rows == 0) return;
  const std::vector<Piece> pieces = cache::pieces_of(page);
  for (size_t p = 0; p < pieces.size(); ++p) {
    const Piece& piece = pieces[p];
    if (piece.bytes == 0) continue;
    Tensor& tensor =
        tensors.emplace_back(make_tensor(cache::tensor_name(g, part, piece), piece.dtype,
                                         {piece.bytes_of(rows) / size_of(piece.dtype)}));
    u8* to = tensor.view.as<u8>();
    for (int l = 0; l < std::ssize(lists); ++l) {
      const ListView view = cache.list(one, g, l)[part].view();
      const std::span<const int64_t> slots = lists[at(l)].slots[index_of(part)];
      cache::copy_out(page, view, piece, slots, to);
      if (page.until >= 0 && piece.name == "column/" + std::string(kUntilColumn)) {
        cache::RowColumns columns(page, view, 0);
        for (size_t i = 0; i < slots.size(); ++i)  // rows of a hole are dead for ever
          if (columns.is_hole(slots[i])) reinterpret_cast<int32_t*>(to)[i] = -1;
      }
      to += piece.bytes_of(std::ssize(slots));
    }
  }
}

Json describe(const ListRows& list) {
  return {list.rows[0], list.rows[1], list.rows[2], list.recent_slot, list.pending};
}

Json describe_sequence(const cache::Sequence& one) {
  Json removed = Json::array();
  for (const Range& cuts : one.removed) removed.push_back({cuts.first, cuts.last});
  return {{"encoder_tokens", one.encoder_seen},
          {"rewritten", one.rewritten},
          {"flagged", one.flagged},
          {"removed", std::move(removed)}};
}

}  // namespace

Rows cache::Impl::pack(const Sequence& one, const std::optional<Range>& range) {
  engine->sync();
  const Range positions = range.value_or(Range{0, one.seen});
  auto tensors = std::make_shared<std::vector<Tensor>>();
  Json lists = Json::array();
  for (int g = 0; g < static_cast<int>(layers.groups.size()); ++g) {
    std::vector<ChosenRows> chosen;
    for (int l = 0; l < group(g).lists; ++l) {
      const bool stays = range.has_value() && group(g).cross;
      chosen.push_back(stays               ? ChosenRows{}
                       : range.has_value() ? living_rows(*this, one, g, l, *range)
                                           : whole_list(*this, one, g, l));
      lists.push_back(describe(chosen.back().rows));
    }
    for (const Part part : kTravelling) pack_part(*this, one, g, part, chosen, *tensors);
  }
  Json manifest{{"format", kRowsFormat},
                {"version", kRowsVersion},
                {"identity", identity()},
                {"layout", layout_of(layers)},
                {"positions", {positions.first, positions.last}},
                {"lists", std::move(lists)}};
  if (!range.has_value()) {
    manifest["sequence"] = describe_sequence(one);
    for (size_t s = 0; s < one.states.size(); ++s) {
      if (one.states[s].empty()) continue;
      tensors->push_back(
          make_tensor("state/" + std::to_string(s), Dtype::u8, {std::ssize(one.states[s])}));
      std::memcpy(tensors->back().view.data, one.states[s].data(), one.states[s].size());
    }
  }
  Rows out{.manifest = canonical(manifest), .owner = tensors};
  for (const Tensor& tensor : *tensors) out.tensors.emplace_back(tensor.name, tensor.view);
  return out;
}

void cache::Impl::check_range(const Sequence& one, Range positions) const {
  KVLAB_REQUIRE(
      positions.first >= 0 && positions.first < positions.last && positions.last <= one.seen,
      "E_POSITION", "cache: export_rows: positions [", positions.first, ", ", positions.last,
      ") are no range of the ", one.seen, " tokens of sequence ", static_cast<int64_t>(one.id));
}

void cache::Impl::check_separable(std::string_view call) const {
  KVLAB_REQUIRE(composition.capabilities.chunk_separable, "E_UNSUPPORTED", "cache: ", call, ": ",
                label_of(composition),
                " stores rows that mean nothing apart from the others; save ",
                "and load whole sequences");
  KVLAB_REQUIRE(
      layers.states.empty(), "E_UNSUPPORTED", "cache: ", call,
      ": sequences have states (of the model or of a selector), which belong to no range ",
      "of positions; save and load whole sequences");
}

}  // namespace kvlab
