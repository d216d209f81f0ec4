#pragma once
// The inside of a Cache: one struct, its functions by subject in the files of this folder.

#include <chrono>
#include <exception>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/cache.h"
#include "core/cache/layers.h"
#include "core/cache/tiles.h"
#include "core/error.h"
#include "core/store.h"

namespace kvlab::cache {

using Bytes_ = std::vector<u8>;

/// One live sequence.
struct Sequence {
  SeqId id{};
  int64_t seen = 0, encoder_seen = 0;  // tokens
  RowLists lists{};
  std::vector<Bytes_> states{};  // per state, as the last pass left it
  // What truncate must know.
  std::vector<Range> removed{};  // n in [first, last): a row below n that n - 1 could read is gone
  int64_t rewritten = -1;        // newest position of a pass that changed old rows or states
  int64_t flagged = -1;          // largest `until` a flag ever gave
  int open = -1;                 // its number in the open chunk
  int64_t table_bytes = 0;

  /// A row is gone that queries up to `until` could read.
  void remember_removed(int32_t position, int32_t until);
  void count_tables();
};

/// Where a list stood when the pass began.
struct Mark {
  std::array<int64_t, kParts> last{};
  int64_t pending = 0;
};

/// What a layer has done in the pass.
enum class Step : u8 { waiting, appended, settled };

/// Old bytes of a row, to be put back when the pass is cancelled.
struct OldBytes {
  Sequence* sequence = nullptr;
  int list = 0;  // of all lists of the sequence
  Part part{};
  int64_t slot = 0;
  Bytes_ bytes{};
};

/// A row whose `until` was lowered by rank, and what it was.
struct Dropped {
  Part part{};
  int64_t slot = 0;
  int32_t position = 0, until = 0;
};

/// Values of one column that a selector wrote, by rising position; kept when the chunk ends.
struct ColumnWrites {
  std::vector<int32_t> positions{};
  Bytes_ values{};
};

/// A row of the pass that has left already: remembered when the pass ends.
struct Gone {
  Sequence* sequence = nullptr;
  int32_t position = 0, until = 0;
};

struct OpenChunk {
  bool is_open = false;
  bool is_broken = false;  // a stage or an engine threw: nothing but cancel
  ReadPolicy read = ReadPolicy::raw_chunk;
  Chunk::Write write = Chunk::Write::append;
  bool encoder = false;
  std::vector<SeqId> ids{};
  std::vector<int32_t> indptr{}, positions{}, token_ids{};
  std::vector<Sequence*> sequences{};
  std::vector<Range> spans{};                 // positions of the pass, per sequence
  std::vector<Step> steps{};                  // per layer
  std::vector<int64_t> flagged{};             // Sequence::flagged when the pass began
  std::vector<std::vector<Mark>> marks{};     // [sequence][list]
  std::vector<std::vector<Bytes_>> states{};  // [sequence][state], empty: untouched
  /// By (list of all lists of all sequences of the chunk, column of the layer).
  std::map<std::pair<int64_t, int>, ColumnWrites> columns{};
  std::vector<OldBytes> replaced{};
  std::vector<Gone> gone{};
  /// By (sequence, list of all lists of the sequence).
  std::map<std::pair<Sequence*, int>, std::vector<Dropped>> dropped{};

  int64_t rows() const { return std::ssize(positions); }
  RowMap map() const { return {ids, indptr, positions}; }
  bool is_raw() const { return read == ReadPolicy::raw_chunk; }
  bool replaces() const { return write == Chunk::Write::replace; }
};

/// While it lives a stage or an engine may throw; then the pass can only be cancelled.
class Work {
 public:
  explicit Work(OpenChunk& chunk) : chunk_(chunk) { chunk_.is_broken = true; }
  ~Work() {
    if (std::uncaught_exceptions() == before_) chunk_.is_broken = false;
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

 private:
  OpenChunk& chunk_;
  int before_ = std::uncaught_exceptions();
};

/// A plan and what it was made for.
struct CachedPlan {
  std::vector<int64_t> key{};
  const Engine* engine = nullptr;
  std::shared_ptr<const Plan> plan{};
};

/// What a view is for.
enum class Sight : u8 {
  pass,     // the queries of the open pass, by its read policy
  settled,  // as it is stored: each living row once, plain causality
};

/// Adds the time until it dies to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), begin_(Clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point begin_;
};

class AppendedRows;  // NewRows of one append

/// "window+quant", or "the method" when nobody named it.
std::string label_of(const Composition& composition);

struct Impl {
  /// Slots that a call reads, segment by segment; lives as long as the call.
  struct NarrowedSlots {
    std::vector<std::vector<int64_t>> indptr{}, slots{};
  };

  Impl(const ModelShape& model, Composition made_of, const Registry& known, Where place);
  ~Impl();

  // sequences.cc
  Sequence& sequence(SeqId id, std::string_view call);
  std::unique_ptr<Sequence> make_sequence();
  SeqId add();
  SeqId adopt(std::unique_ptr<Sequence> one);
  SeqId fork(SeqId id);
  void drop(SeqId id);
  void truncate(SeqId id, int64_t n);
  void check_cut(const Sequence& one, int64_t n) const;
  int64_t cut_past(const Sequence& one, int g, int l, int64_t n) const;
  void cut_list(Sequence& one, int g, int l, int64_t n, int64_t past_end);

  // chunk.cc
  void begin(const Chunk& given);
  void check_policy(const Chunk& given) const;
  void mark_lists();
  void end(ChunkEnd why);
  void cancel();
  void undo_list(Sequence& one, int g, int l);
  void close();
  void require_open(std::string_view call) const;
  void require_closed(const Sequence& one, std::string_view call) const;
  Sequence& in_chunk(SeqId id, std::string_view call);

  // reserve.cc
  Demand demand_of_pass();
  Demand demand_of_replacing();
  void demand_of_list(const Sequence& one, Range pass, int g, int l, Demand& demand,
                      std::vector<int64_t>& passing) const;
  int64_t due_at_most(const Group& rules, const RowList& rows, int g, int64_t newest,
                      int64_t fresh) const;
  static int64_t copied_pages(const PageList& list, Range slots);

  // append.cc
  bool appends(int layer) const;
  Needs needs(int layer, int64_t count) const;
  void append(const Append& given);
  void check_turn(const Append& given) const;
  void extend(int layer);
  void fill(const Append& given);
  void place(int layer);

  // replace.cc
  void check_rows_of_pass(const Append& given);
  void save_old(int layer);
  void put_back();

  // settle.cc
  void form_tiles(int g);
  void hide_exact(PageList& recent, int g, std::span<const int64_t> slots);
  void settle(int layer);
  void settle_below(int layer);
  void release_pass_rows(Sequence& one, int g, int l);

  // leave.cc
  /// Rows are dead for good once their `until` is below it.
  int64_t death_line(const Sequence& one) const { return one.seen - where.rollback; }
  /// Exact rows leave `recent` below it.  A cut at n wants back the exact rows of a tile that was
  /// due at n or later: those could be read up to n - 1.
  int64_t exact_line(int64_t seen) const {
    return where.rollback > 0 ? seen - where.rollback - 1 : seen;
  }
  void leave(Sequence& one, int g);
  bool lies_in_past(const Sequence& one, int g, int l, int32_t position) const;
  void leave_recent(Sequence& one, int g, int l);
  void bury(Sequence& one, int g, int l, Part part);
  void bury_recent(Sequence& one, int g, int l);
  void free_dead_pages(Sequence& one, int g, int l, Part part, std::vector<int64_t>& touched);
  bool compact(Sequence& one, int g, int l, Part part, int64_t from);

  // views.cc
  /// The lists of a group in one part, of these sequences.
  void view(int g, Part part, std::span<Sequence* const> of, PartView& out) const;
  std::vector<Segment> segments(int layer, std::span<Sequence* const> of, Sight sight) const;

  // attend.cc
  void attend(const Attend& given);
  void check_attend(const Attend& given);
  void check_query_rows(const RowMap& rows, bool crosses);
  Engine& engine_on(const std::optional<Device::Kind>& on);
  std::shared_ptr<const Plan> plan_for(Engine& on, int layer, const RowMap& rows,
                                       std::span<const Segment> of);
  /// One engine call.  mass, when requested, per segment and slot as in AttendCall.
  void run_attention(const Attend& given, std::vector<Segment>& segs,
                     const std::optional<MassRequest>& request, std::vector<float>* mass);
  MassRequest mass_request(const Attend& given, int selector) const;
  void narrow(const Attend& given, std::span<Sequence* const> of, std::vector<Segment>& segs,
              NarrowedSlots& out);

  // rank.cc
  void rank(ChunkEnd why);
  void rank_by(int s);
  void drop_row(Sequence& one, int g, int l, Part part, int64_t slot);
  void undo_rank();
  std::vector<int64_t> dropped_slots(Sequence& one, int g, int l, Part part) const;
  bool keep_columns(Sequence& one);

  // pack.cc, unpack.cc: see parcel.h
  /// A whole sequence, or the living rows of a range.
  Rows pack(const Sequence& one, const std::optional<Range>& range);
  void check_range(const Sequence& one, Range positions) const;
  void check_separable(std::string_view call) const;
  SeqId unpack(const Rows& given);
  void import(SeqId id, const Rows& given, int64_t position);

  // materialise.cc
  void materialise(int layer, SeqId id, Range positions, TensorView keys, TensorView values);

  // accounts.cc
  Bytes bytes(int layer);
  int64_t account() const;  // page tables and states
  void note_scratch();
  TensorView staged_state(Sequence& one, int s);
  std::vector<int32_t> living_positions(int layer, SeqId id, int l);
  std::vector<std::span<const u8>> read_set(int layer, std::span<const SeqId> of);
  void prefetch(int layer, std::span<const SeqId> of);

  // Small ones.
  Json identity() const;
  const LayerPlan& plan_of(int layer, std::string_view call) const;
  const PageLayout& page(int g, Part part) const {
    return store.groups()[static_cast<size_t>(g)].part[index_of(part)];
  }
  const Group& group(int g) const { return layers.groups[static_cast<size_t>(g)]; }
  int list_number(int g, int l) const {
    return static_cast<int>(store.first_list(static_cast<size_t>(g))) + l;
  }
  int group_of_list(int number) const;
  RowList& list(Sequence& one, int g, int l) const {
    return one.lists[static_cast<size_t>(list_number(g, l))];
  }
  const RowList& list(const Sequence& one, int g, int l) const {
    return one.lists[static_cast<size_t>(list_number(g, l))];
  }
  /// Position of slot 0 where positions are not explicit.
  int64_t offset_of(int g, Part part) const {
    return part == Part::past || part == Part::recent ? group(g).first : 0;
  }
  const Mark& mark(const Sequence& one, int g, int l) const {
    return chunk.marks[static_cast<size_t>(one.open)][static_cast<size_t>(list_number(g, l))];
  }
  Range span(const Sequence& one) const { return chunk.spans[static_cast<size_t>(one.open)]; }
  /// Whether the pass keeps its rows as given beside their stored form.
  bool keeps_raw(const Group& g) const {
    return chunk.is_raw() && !chunk.replaces() && !g.exact_entry && !g.cross;
  }
  static Part entry_part(const Group& g) { return g.direct ? Part::past : Part::recent; }
  void moved(int layer) { ++versions[static_cast<size_t>(layer)]; }

  ModelShape shape;
  Composition composition;
  const Registry* registry;
  Where where;
  std::shared_ptr<Engine> engine;
  Layers layers;
  Store store;
  std::unordered_map<int64_t, std::unique_ptr<Sequence>> sequences;  // die before the store
  int64_t next_id = 0;
  OpenChunk chunk;
  std::vector<CachedPlan> plans;  // of the open chunk
  std::vector<int64_t> plan_key;
  std::vector<uint64_t> versions;  // per layer
  std::vector<Ran> last_ran;       // per layer, complete once `ran_on` has synced
  std::vector<Engine*> ran_on;
  bool has_cross = false;
  // Scratch, kept between calls.
  std::unique_ptr<AppendedRows> rows;
  std::vector<float> scratch_out, scratch_lse, observed_lse;
  int64_t scratch = 0, scratch_peak = 0;
  double storing_seconds = 0, attending_seconds = 0;
  std::function<void(const Attend&)> saw{};  // after every attend
};

}  // namespace kvlab::cache
