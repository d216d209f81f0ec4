// begin_chunk, end_chunk, cancel_chunk: a pass happens whole or not at all.

#include <algorithm>
#include <unordered_set>

#include "core/cache/appended_rows.h"
#include "core/cache/impl.h"
#include "core/cache/row_columns.h"

namespace kvlab {

using cache::Mark;
using cache::Step;

namespace {

void check_row_map(const RowMap& rows, std::string_view call) {
  const auto count = std::ssize(rows.sequences);
  KVLAB_REQUIRE(count > 0, "E_SHAPE", "cache: ", call, " was given no sequences");
  KVLAB_REQUIRE(std::ssize(rows.indptr) == count + 1 && rows.indptr.front() == 0 &&
                    rows.indptr.back() == rows.size(),
                "E_SHAPE", "cache: ", call, ": indptr of ", rows.indptr.size(), " entries for ",
                count, " sequences and ", rows.size(),
                " rows; it has one entry more than sequences, from 0 to the number of rows");
  for (int64_t i = 0; i < count; ++i)
    KVLAB_REQUIRE(rows.indptr[at(i)] <= rows.indptr[at(i + 1)], "E_SHAPE", "cache: ", call,
                  ": indptr falls from ", rows.indptr[at(i)], " to ", rows.indptr[at(i + 1)]);
  std::unordered_set<int64_t> distinct;
  for (const SeqId id : rows.sequences)
    KVLAB_REQUIRE(distinct.insert(static_cast<int64_t>(id)).second, "E_SEQUENCE", "cache: ", call,
                  ": sequence ", static_cast<int64_t>(id), " is named twice");
}

void check_positions(const cache::Sequence& one, std::span<const int32_t> positions,
                     const Chunk& given) {
  const int64_t seen = given.encoder ? one.encoder_seen : one.seen;
  const auto id = static_cast<int64_t>(one.id);
  KVLAB_REQUIRE(!positions.empty(), "E_SHAPE", "cache: begin_chunk: sequence ", id, " has no rows");
  for (size_t i = 0; i < positions.size(); ++i) {
    if (given.write == Chunk::Write::append)
      KVLAB_REQUIRE(positions[i] == seen + static_cast<int64_t>(i), "E_POSITION",
                    "cache: begin_chunk: sequence ", id, " has seen ", seen, " tokens, so its row ",
                    i, " is position ", seen + static_cast<int64_t>(i), ", not ", positions[i]);
    else
      KVLAB_REQUIRE(
          positions[i] >= 0 && positions[i] < seen && (i == 0 || positions[i] > positions[i - 1]),
          "E_POSITION", "cache: begin_chunk: sequence ", id, " replaces position ", positions[i],
          "; positions rise and lie below the ", seen, " tokens seen");
  }
}

}  // namespace

void cache::Impl::require_open(std::string_view call) const {
  KVLAB_REQUIRE(chunk.is_open, "E_ORDER", "cache: ", call,
                " belongs between begin_chunk and end_chunk");
  KVLAB_REQUIRE(!chunk.is_broken, "E_ORDER", "cache: ", call,
                " in a pass in which a stage or the engine has failed; call cancel_chunk");
}

void cache::Impl::require_closed(const Sequence& one, std::string_view call) const {
  KVLAB_REQUIRE(one.open < 0, "E_ORDER", "cache: ", call, ": sequence ",
                static_cast<int64_t>(one.id),
                " is in the open chunk; call end_chunk or cancel_chunk first");
}

cache::Sequence& cache::Impl::in_chunk(SeqId id, std::string_view call) {
  Sequence& one = sequence(id, call);
  KVLAB_REQUIRE(one.open >= 0, "E_SEQUENCE", "cache: ", call, ": sequence ",
                static_cast<int64_t>(id), " is not in the open chunk");
  return one;
}

void cache::Impl::check_policy(const Chunk& given) const {
  const std::string_view name = name_of(given.read);
  KVLAB_REQUIRE(std::ranges::find(composition.capabilities.refuses, given.read) ==
                    composition.capabilities.refuses.end(),
                "E_READ_POLICY", "cache: ", cache::label_of(composition), " cannot be read as `",
                name, "`; take another read policy");
  if (given.write == Chunk::Write::replace && given.read == ReadPolicy::raw_chunk)
    for (const Group& rules : layers.groups)
      KVLAB_REQUIRE(!rules.lossy, "E_READ_POLICY", "cache: a replacing pass reads what is stored, ",
                    "but layer ", rules.layer, " does not store rows as they come; read `stored`");
}

void cache::Impl::begin(const Chunk& given) {
  KVLAB_REQUIRE(!chunk.is_open, "E_ORDER",
                "cache: begin_chunk inside an open chunk; call end_chunk or cancel_chunk first");
  check_row_map(given.rows, "begin_chunk");
  check_policy(given);
  KVLAB_REQUIRE(given.token_ids.empty() || std::ssize(given.token_ids) == given.rows.size(),
                "E_SHAPE", "cache: begin_chunk: ", given.token_ids.size(), " token ids for ",
                given.rows.size(), " rows");
  KVLAB_REQUIRE(!given.encoder || (has_cross && given.write == Chunk::Write::append), "E_ORDER",
                "cache: an encoder pass appends to cross layers",
                has_cross ? "" : ", and this model has none");
  std::vector<Sequence*> involved;
  for (int64_t i = 0; i < std::ssize(given.rows.sequences); ++i) {
    Sequence& one = sequence(given.rows.sequences[at(i)], "begin_chunk");
    const Range rows = given.rows.rows_of(i);
    check_positions(one, given.rows.positions.subspan(at(rows.first), at(rows.size())), given);
    if (given.write == Chunk::Write::append && given.read == ReadPolicy::stored && rows.size() > 1)
      KVLAB_REQUIRE(given.encoder || one.flagged < one.seen, "E_READ_POLICY", "cache: sequence ",
                    static_cast<int64_t>(one.id), " has rows that expire up to position ",
                    one.flagged, "; a `stored` pass of ", rows.size(),
                    " tokens cannot drop them one by one, read it as `masked`");
    involved.push_back(&one);
  }
  chunk.read = given.read;
  chunk.write = given.write;
  chunk.encoder = given.encoder;
  chunk.ids.assign(given.rows.sequences.begin(), given.rows.sequences.end());
  chunk.indptr.assign(given.rows.indptr.begin(), given.rows.indptr.end());
  chunk.positions.assign(given.rows.positions.begin(), given.rows.positions.end());
  chunk.token_ids.assign(given.token_ids.begin(), given.token_ids.end());
  chunk.sequences = std::move(involved);
  chunk.spans.clear();
  for (int64_t i = 0; i < std::ssize(chunk.ids); ++i) {
    const Range rows = given.rows.rows_of(i);
    chunk.spans.push_back(
        {chunk.positions[at(rows.first)], chunk.positions[at(rows.last - 1)] + 1});
  }
  store.reserve(demand_of_pass());
  mark_lists();
  chunk.is_open = true;
}

void cache::Impl::mark_lists() {
  chunk.steps.assign(layers.plans.size(), Step::waiting);
  chunk.marks.resize(std::max(chunk.marks.size(), chunk.sequences.size()));
  chunk.states.resize(chunk.sequences.size());
  chunk.flagged.clear();
  for (size_t i = 0; i < chunk.sequences.size(); ++i) {
    Sequence& one = *chunk.sequences[i];
    one.open = static_cast<int>(i);
    chunk.flagged.push_back(one.flagged);
    chunk.states[i].assign(layers.states.size(), {});
    chunk.marks[i].clear();
    for (const RowList& rows : one.lists) {
      Mark& mark = chunk.marks[i].emplace_back(Mark{.pending = rows.pending});
      for (size_t part = 0; part < kParts; ++part) mark.last[part] = rows.part[part].slots().last;
    }
  }
}

// ---- the end ----

void cache::Impl::end(ChunkEnd why) {
  const cache::Stopwatch storing(storing_seconds);
  require_open("end_chunk");
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer)
    KVLAB_REQUIRE(chunk.replaces() || !appends(layer) || chunk.steps[at(layer)] != Step::waiting,
                  "E_ORDER", "cache: end_chunk: layer ", layer, " has not appended");
  {
    const cache::Work work(chunk);
    settle_below(static_cast<int>(layers.plans.size()));
    engine->sync();
    if (!chunk.replaces() && !chunk.encoder) rank(why);
  }
  // Nothing below asks a stage, and memory was reserved.
  for (const cache::Gone& row : chunk.gone) row.sequence->remember_removed(row.position, row.until);
  for (size_t i = 0; i < chunk.sequences.size(); ++i) {
    Sequence& one = *chunk.sequences[i];
    const int64_t newest = chunk.spans[i].last - 1;
    bool rewrote = keep_columns(one);
    for (size_t s = 0; s < layers.states.size(); ++s)
      if (!chunk.states[i][s].empty()) {
        rewrote = true;
        std::swap(one.states[s], chunk.states[i][s]);
      }
    if (rewrote) one.rewritten = std::max(one.rewritten, newest);
    if (chunk.replaces()) continue;
    (chunk.encoder ? one.encoder_seen : one.seen) = chunk.spans[i].last;
    for (auto at_list = chunk.dropped.lower_bound({&one, 0});
         at_list != chunk.dropped.end() && at_list->first.first == &one; ++at_list)
      for (const cache::Dropped& row : at_list->second)
        one.remember_removed(row.position, static_cast<int32_t>(newest));
    for (int g = 0; g < static_cast<int>(layers.groups.size()); ++g)
      if (group(g).cross == chunk.encoder) leave(one, g);
  }
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer) moved(layer);
  close();
}

void cache::Impl::cancel() {
  KVLAB_REQUIRE(chunk.is_open, "E_ORDER", "cache: cancel_chunk without an open chunk");
  engine->sync();
  put_back();
  undo_rank();
  for (size_t i = 0; i < chunk.sequences.size(); ++i) {
    Sequence& one = *chunk.sequences[i];
    one.flagged = chunk.flagged[i];
    for (int g = 0; g < static_cast<int>(layers.groups.size()); ++g)
      for (int l = 0; l < group(g).lists; ++l) undo_list(one, g, l);
  }
  for (int layer = 0; layer < static_cast<int>(layers.plans.size()); ++layer) moved(layer);
  close();
}

/// A list as it was when the pass began.
void cache::Impl::undo_list(Sequence& one, int g, int l) {
  const Group& rules = group(g);
  const Mark& before = mark(one, g, l);
  RowList& rows = list(one, g, l);
  if (!rules.direct && rows.pending > before.pending && !rules.cross) {
    // Exact rows of earlier passes that a tile of this pass hides: its rows know their `until`.
    cache::RowColumns past(page(g, Part::past), rows[Part::past].view(), offset_of(g, Part::past));
    ListView old = rows[Part::recent].view();
    old.first = before.pending;
    old.last = before.last[index_of(Part::recent)];
    cache::RowColumns recent(page(g, Part::recent), old, offset_of(g, Part::recent));
    for (int64_t slot = before.last[index_of(Part::past)]; slot < rows[Part::past].slots().last;
         ++slot) {
      const int64_t exact = recent.lower_bound(past.position(slot));
      if (exact == old.last) break;
      recent.until(exact) = past.until_or_forever(slot);
    }
  }
  rows.pending = before.pending;
  for (const Part part : {Part::first, Part::past, Part::recent})
    rows[part].truncate(before.last[index_of(part)]);
  if (page(g, Part::chunk).bytes > 0) rows[Part::chunk].clear();
}

void cache::Impl::close() {
  for (Sequence* one : chunk.sequences) {
    one->open = -1;
    one->count_tables();
  }
  chunk.is_open = chunk.is_broken = false;
  chunk.columns.clear();
  chunk.replaced.clear();
  chunk.gone.clear();
  chunk.dropped.clear();
  plans.clear();
  store.trim();
  store.settle_account(account());
}

}  // namespace kvlab
