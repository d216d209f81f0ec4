// Rows enter a cache.  They may come from anywhere: everything is checked before anything changes.

#include <algorithm>
#include <charconv>
#include <cstring>
#include <numeric>

#include "core/cache/parcel.h"
#include "core/cache/row_columns.h"

namespace kvlab {

using cache::ListRows;
using cache::Piece;
using cache::Sequence;

namespace {

constexpr size_t kMostCuts = 1024;

template <class... Reason>
[[noreturn]] void malformed(const Reason&... reason) {
  fail("E_FORMAT", "cache: these are no rows of a cache: ", reason...);
}

// ---- the manifest ----

const Json& member(const Json& object, const char* key, Json::value_t type) {
  const auto found = object.find(key);
  if (found == object.end() || found->type() != type)
    malformed("`", key, "` is missing or of the wrong type");
  return *found;
}

/// An integer in [low, high].
int64_t integer(const Json& value, std::string_view what, int64_t low, int64_t high) {
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{1} << 62);
  const int64_t number = fits ? value.get<int64_t>() : 0;
  if (!fits || number < low || number > high)
    malformed(what, " is ", printable(canonical(value)), ", not an integer in ", low, "..", high);
  return number;
}

Range range(const Json& value, std::string_view what, int64_t low, int64_t high) {
  if (!value.is_array() || value.size() != 2) malformed(what, " is no pair");
  const int64_t first = integer(value[0], what, low, high);
  return {first, integer(value[1], what, first, high)};
}

/// What both sides must share: E_IDENTITY with both values.
void check_same(const Json& theirs, const Json& ours, std::string_view what) {
  if (theirs == ours) return;
  if (theirs.is_object() && ours.is_object())
    for (const auto& [key, value] : ours.items())
      check_same(theirs.contains(key) ? theirs[key] : Json(), value, std::string(what) + "." + key);
  if (theirs.is_array() && ours.is_array() && theirs.size() == ours.size())
    for (size_t i = 0; i < ours.size(); ++i)
      check_same(theirs[i], ours[i], std::string(what) + "[" + std::to_string(i) + "]");
  fail("E_IDENTITY", "cache: the rows have ", what, " ", printable(canonical(theirs), 200),
       ", this cache has ", printable(canonical(ours), 200),
       "; rows go only to a cache of the same model, methods and parameters");
}

struct Manifest {
  Range positions{};
  std::vector<ListRows> lists{};
  // Of whole sequences.
  bool is_sequence = false;
  int64_t encoder_tokens = 0, rewritten = -1, flagged = -1;
  std::vector<Range> removed{};
};

void read_sequence(const Json& text, Manifest& out) {
  const Json& one = member(text, "sequence", Json::value_t::object);
  out.is_sequence = true;
  if (one.size() != 4) malformed("`sequence` has ", one.size(), " members, not 4");
  const auto number = [&](const char* key, int64_t low, int64_t high) {
    const auto found = one.find(key);
    return integer(found == one.end() ? Json() : *found, key, low, high);
  };
  out.encoder_tokens = number("encoder_tokens", 0, kForever - 1);
  out.rewritten = number("rewritten", -1, out.positions.last - 1);
  out.flagged = number("flagged", -1, kForever);
  const Json& removed = member(one, "removed", Json::value_t::array);
  if (removed.size() > kMostCuts) malformed("`removed` has ", removed.size(), " ranges");
  for (const Json& cuts : removed) {
    const int64_t after = out.removed.empty() ? 0 : out.removed.back().last + 1;
    out.removed.push_back(range(cuts, "`removed`", after, int64_t{kForever} + 1));
  }
}

Manifest read_manifest(const cache::Impl& cache, const std::string& text) {
  const Json json = parse_json(text, "the manifest of rows of a cache");
  if (!json.is_object()) malformed("the manifest is no object");
  if (member(json, "format", Json::value_t::string) != std::string(cache::kRowsFormat))
    malformed("`format` is not ", cache::kRowsFormat);
  check_same(json.value("version", Json()), cache::kRowsVersion, "version");
  check_same(json.value("identity", Json()), cache.identity(), "identity");
  check_same(json.value("layout", Json()), cache::layout_of(cache.layers), "layout");
  Manifest out;
  out.positions =
      range(member(json, "positions", Json::value_t::array), "`positions`", 0, kForever - 1);
  const bool is_sequence = json.contains("sequence");
  if (is_sequence) read_sequence(json, out);
  if (json.size() != (is_sequence ? 7U : 6U)) malformed("the manifest has members of no meaning");
  const Json& lists = member(json, "lists", Json::value_t::array);
  if (lists.size() != cache.store.lists_per_sequence())
    malformed(lists.size(), " lists, not ", cache.store.lists_per_sequence());
  for (const Json& list : lists) {
    if (!list.is_array() || list.size() != 5) malformed("a list is not described by five numbers");
    ListRows rows;
    for (size_t part = 0; part < 3; ++part)
      rows.rows[part] = integer(list[part], "a number of rows", 0, kForever - 1);
    rows.recent_slot = integer(list[3], "a slot", 0, kForever - 1);
    rows.pending = integer(list[4], "a number of rows", 0, rows.rows[2]);
    out.lists.push_back(rows);
  }
  return out;
}

// ---- the numbers of one list agree with each other ----

/// Where positions follow from slots, rows tell exactly which they are.
void check_counts(const cache::Group& group, const ListRows& list, Range positions) {
  const auto& [first, past, recent] = list.rows;
  const int64_t in_first = std::clamp<int64_t>(group.first - positions.first, 0, positions.size());
  if (first != in_first)
    malformed("layer ", group.layer, ": ", first, " first rows, not ", in_first);
  if (past % group.tile != 0)
    malformed("layer ", group.layer, ": ", past, " encoded rows are no whole tiles of ",
              group.tile);
  if (group.direct && recent != 0)
    malformed("layer ", group.layer, ": rows that wait, where none do");
  if (group.drops) return;
  const Range slots{std::max<int64_t>(positions.first - group.first, 0),
                    std::max<int64_t>(positions.last - group.first, 0)};
  const int64_t past_end = slots.first + past;
  const bool fits = group.direct ? past_end == slots.last
                                 : past_end <= slots.last && list.recent_slot <= past_end &&
                                       list.recent_slot >= slots.first &&
                                       list.recent_slot + recent == slots.last;
  if (!fits)
    malformed("layer ", group.layer, ": ", past, " encoded and ", recent,
              " exact rows do not cover positions ", positions.first, " to ", positions.last);
  if (!group.direct && list.recent_slot + list.pending != past_end)
    malformed("layer ", group.layer, ": ", list.pending, " of the exact rows are said to be ",
              "encoded as well, not ", past_end - list.recent_slot);
}

/// Positions rise and lie where they may.
void check_positions(const cache::Group& group, std::span<const int32_t> positions, Range allowed) {
  int64_t before = std::max(allowed.first, group.first) - 1;
  for (const int32_t p : positions) {
    if (p <= before || p >= allowed.last)
      malformed("layer ", group.layer, ": position ", p, " after ", before, ", of [", allowed.first,
                ", ", allowed.last, ")");
    before = p;
  }
}

}  // namespace

namespace cache {

/// Checked rows on their way into one sequence.
class Unpacking {
 public:
  Unpacking(Impl& cache, const Rows& rows)
      : cache_(cache), rows_(rows), manifest_(read_manifest(cache, rows.manifest)) {
    size_t expected = manifest_.is_sequence ? check_states() : 0;
    for (int g = 0; g < groups(); ++g)
      for (const Part part : kTravelling) expected += check_part(g, part);
    if (expected != rows_.tensors.size())
      malformed(rows_.tensors.size(), " tensors, not ", expected);
  }

  const Manifest& manifest() const { return manifest_; }

  /// Whether the rows may go on where a sequence ends, `shift` positions later: E_ALIGN,
  /// E_POSITION.
  void check_target(const Sequence& one, int64_t shift) const {
    for (int g = 0; g < groups(); ++g) {
      const Group& group = cache_.group(g);
      const bool moves_first = std::min(one.seen, manifest_.positions.first) < group.first;
      KVLAB_REQUIRE(group.cross || shift == 0 || !moves_first, "E_POSITION",
                    "cache: import_rows: layer ", group.layer, " keeps positions below ",
                    group.first, " apart; rows from or to there cannot change their positions");
      for (int l = 0; l < group.lists; ++l) {
        const RowList& rows = cache_.list(one, g, l);
        const int64_t waiting = rows[Part::recent].slots().last - rows.pending;
        KVLAB_REQUIRE(group.direct || waiting == 0 || count(g, l, Part::past) == 0, "E_ALIGN",
                      "cache: import_rows: layer ", group.layer, " of sequence ",
                      static_cast<int64_t>(one.id), " holds ", waiting,
                      " rows that are not encoded yet, so encoded rows cannot follow; import ",
                      "where none waits");
      }
    }
  }

  /// Gets memory for all of it; no row changes.
  void reserve(Sequence& one) const {
    Demand demand = cache_.store.demand();
    for (int g = 0; g < groups(); ++g)
      for (int l = 0; l < cache_.group(g).lists; ++l)
        for (const Part part : kTravelling) {
          const int64_t rows = count(g, l, part);
          if (rows == 0) continue;
          PageList& pages = cache_.list(one, g, l)[part];
          const int64_t most = rows / pages.page_tokens() + 3;  // cut at both ends, or shared
          demand.bytes += most * static_cast<int64_t>(sizeof(int32_t));
          if (const Range old = pages.slots(); pages.is_contiguous())
            demand.contiguous.push_back({&pages, rows, {old.last, old.last + rows}});
          else
            demand.pages[at(cache_.store.pool_of(at(g), part))] += most;
        }
    cache_.store.reserve(demand);
  }

  /// Rows go to the ends of their lists, `shift` positions later.  Cannot fail.  Whether one of
  /// them was hidden by rank: nobody knows any more who could have read it.
  bool place(Sequence& one, int64_t shift) const {
    bool hidden = false;
    for (int g = 0; g < groups(); ++g) {
      std::vector<bool> none_waits;
      for (int l = 0; l < cache_.group(g).lists; ++l) {
        const RowList& rows = cache_.list(one, g, l);
        none_waits.push_back(rows.pending >= rows[Part::recent].slots().last);
      }
      for (const Part part : kTravelling) place_part(one, g, part, shift);
      for (int l = 0; l < cache_.group(g).lists; ++l) {
        RowList& rows = cache_.list(one, g, l);
        if (none_waits[at(l)])
          rows.pending =
              rows[Part::recent].slots().last - count(g, l, Part::recent) + list(g, l).pending;
        if (cache_.group(g).drops) hidden |= move(one, g, l, shift);
      }
    }
    return hidden;
  }

  void place_states(Sequence& one) const {
    for (size_t s = 0; s < one.states.size(); ++s)
      if (!one.states[s].empty())
        std::memcpy(one.states[s].data(), find("state/" + std::to_string(s))->data,
                    one.states[s].size());
  }

  /// Whether some list lacks a row of the range.
  bool lacks_rows() const {
    for (int g = 0; g < groups(); ++g)
      for (int l = 0; cache_.group(g).drops && l < cache_.group(g).lists; ++l) {
        const auto& rows = list(g, l).rows;
        if (rows[0] + rows[1] + rows[2] < manifest_.positions.size()) return true;
      }
    return false;
  }

 private:
  int groups() const { return static_cast<int>(cache_.layers.groups.size()); }
  const ListRows& list(int g, int l) const { return manifest_.lists[at(cache_.list_number(g, l))]; }
  int64_t count(int g, int l, Part part) const { return list(g, l).rows[index_of(part)]; }

  const TensorView* find(std::string_view name) const {
    for (const auto& [known, view] : rows_.tensors)
      if (known == name) return &view;
    return nullptr;
  }

  const u8* bytes_of(const std::string& name, Dtype dtype, int64_t bytes) const {
    const TensorView* const view = find(name);
    if (view == nullptr || view->dtype != dtype || view->dims != 1 || !view->is_contiguous() ||
        view->numel() * size_of(dtype) != bytes || view->device.kind != Device::Kind::cpu)
      malformed("tensor `", printable(name), "` of ", bytes, " bytes is missing or another");
    return view->as<u8>();
  }

  Range positions_of(int g) const {
    if (!cache_.group(g).cross) return manifest_.positions;
    return {0, manifest_.encoder_tokens};
  }

  /// How many tensors there have to be.
  size_t check_part(int g, Part part) const {
    const Group& group = cache_.group(g);
    const PageLayout& page = cache_.page(g, part);
    int64_t rows = 0;
    for (int l = 0; l < group.lists; ++l) {
      if (part == Part::first) check_counts(group, list(g, l), positions_of(g));
      if (page.bytes == 0 && count(g, l, part) > 0)
        malformed("layer ", group.layer, ": rows in a part it does not use");
      rows += count(g, l, part);
    }
    if (rows == 0) return 0;
    size_t tensors = 0;
    for (const Piece& piece : pieces_of(page)) {
      if (piece.bytes == 0) continue;
      int64_t bytes = 0;
      if (__builtin_mul_overflow(rows / piece.per_rows, piece.bytes * piece.units, &bytes))
        malformed("layer ", group.layer, ": ", rows, " rows");
      const u8* const data = bytes_of(tensor_name(g, part, piece), piece.dtype, bytes);
      ++tensors;
      if (piece.name != "column/" + std::string(kPositionColumn)) continue;
      const auto* positions = reinterpret_cast<const int32_t*>(data);
      for (int l = 0; l < group.lists; positions += count(g, l++, part))
        check_positions(group, {positions, at(count(g, l, part))}, positions_of(g));
    }
    return tensors;
  }

  size_t check_states() const {
    size_t tensors = 0;
    for (size_t s = 0; s < cache_.layers.states.size(); ++s) {
      if (cache_.layers.states[s].bytes == 0) continue;
      bytes_of("state/" + std::to_string(s), Dtype::u8, cache_.layers.states[s].bytes);
      ++tensors;
    }
    return tensors;
  }

  void place_part(Sequence& one, int g, Part part, int64_t shift) const {
    const Group& group = cache_.group(g);
    const PageLayout& page = cache_.page(g, part);
    std::vector<std::vector<int64_t>> slots;
    for (int l = 0; l < group.lists; ++l) {
      PageList& pages = cache_.list(one, g, l)[part];
      if (part == Part::recent && !group.direct && !group.drops &&
          (pages.size() == 0 || count(g, l, Part::past) > 0)) {
        // Slots are positions: rows kept for rollback make room.
        const int64_t slot = list(g, l).recent_slot + (group.cross ? 0 : shift);
        pages.clear();
        pages.start_at(slot);
      }
      auto& mine = slots.emplace_back(at(count(g, l, part)));
      std::iota(mine.begin(), mine.end(), pages.slots().last);
      pages.extend(std::ssize(mine));
    }
    for (const Piece& piece : pieces_of(page)) {
      const TensorView* const tensor = find(tensor_name(g, part, piece));
      if (tensor == nullptr) continue;
      const u8* from = tensor->as<u8>();
      for (int l = 0; l < group.lists; ++l) {
        copy_in(page, cache_.list(one, g, l)[part].view(), piece, slots[at(l)], from);
        from += piece.bytes_of(std::ssize(slots[at(l)]));
      }
    }
  }

  /// Explicit positions and untils of the rows just placed.  Whether one is hidden by rank.
  bool move(Sequence& one, int g, int l, int64_t shift) const {
    bool hidden = false;
    for (const Part part : kTravelling) {
      const PageLayout& page = cache_.page(g, part);
      if (page.bytes == 0) continue;
      const ListView view = cache_.list(one, g, l)[part].view();
      RowColumns columns(page, view, cache_.offset_of(g, part));
      for (int64_t slot = view.last - count(g, l, part); slot < view.last; ++slot) {
        if (page.position >= 0) columns.move(slot, shift);
        int32_t& until = columns.until(slot);
        hidden |= until < 0;
        if (until < 0 || until == kForever) continue;
        until = static_cast<int32_t>(std::min<int64_t>(until + shift, kForever - 1));
        one.flagged = std::max<int64_t>(one.flagged, until);
      }
    }
    return hidden;
  }

  Impl& cache_;
  const Rows& rows_;
  Manifest manifest_;
};

SeqId Impl::unpack(const Rows& given) {
  const Unpacking rows(*this, given);
  const Manifest& manifest = rows.manifest();
  if (!manifest.is_sequence) malformed("they are a range of positions; import_rows takes them");
  std::unique_ptr<Sequence> one = make_sequence();
  rows.reserve(*one);
  rows.place(*one, 0);
  rows.place_states(*one);
  one->seen = manifest.positions.last;
  one->encoder_seen = manifest.encoder_tokens;
  one->removed = manifest.removed;
  one->rewritten = manifest.rewritten;
  one->flagged = manifest.flagged;
  return adopt(std::move(one));
}

void Impl::import(SeqId id, const Rows& given, int64_t position) {
  Sequence& one = sequence(id, "import_rows");
  require_closed(one, "import_rows");
  check_separable("import_rows");
  const Unpacking rows(*this, given);
  const Manifest& manifest = rows.manifest();
  if (manifest.is_sequence) malformed("they are a whole sequence; load takes it");
  KVLAB_REQUIRE(position == one.seen, "E_POSITION", "cache: import_rows at ", position,
                ": sequence ", static_cast<int64_t>(id), " ends at ", one.seen,
                ", where rows may follow");
  const int64_t shift = position - manifest.positions.first;
  KVLAB_REQUIRE(shift == 0 || composition.capabilities.position_free, "E_POSITION",
                "cache: import_rows at ", position, ": these rows were stored at position ",
                manifest.positions.first, " and ", label_of(composition),
                " stores rows that depend on it");
  KVLAB_REQUIRE(manifest.positions.last + shift < kForever, "E_POSITION", "cache: import_rows at ",
                position, ": positions end at ", kForever - 1);
  rows.check_target(one, shift);
  rows.reserve(one);
  const bool hidden = rows.place(one, shift);
  one.seen = manifest.positions.last + shift;
  if (hidden || rows.lacks_rows())
    one.remember_removed(static_cast<int32_t>(position), static_cast<int32_t>(one.seen - 1));
  for (const LayerPlan& plan : layers.plans)
    for (const ColumnOf& column : plan.columns)
      if (column.owner != kLayout) one.rewritten = one.seen - 1;  // they may have been written late
  one.count_tables();
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer) moved(layer);
  store.trim();
  store.settle_account(account());
}

}  // namespace cache
}  // namespace kvlab
