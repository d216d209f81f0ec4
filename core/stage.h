#pragma once
// The three optional stages a method supplies: which tokens to keep (Select), what to store for a
// kept token (Project), in which bits (Encode).  A stage has no memory of its own: per row it is a
// stream or a column, per sequence a state.  So fork, truncate, save, compaction and accounting
// need no hook.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/chunk.h"
#include "core/model_shape.h"
#include "core/types.h"

namespace kvlab {

/// Who shares a stored row; a token is dropped no finer.
enum class Scope : u8 { head, group, layer, model };

/// In which bits.  rotate_hadamard: rows are turned by an orthogonal Hadamard matrix before coding;
/// it is folded into the query, the up maps and the output, unless RoPE lies between.
struct Encoding {
  std::string codec{};   // registered name; empty: as they came
  std::string params{};  // JSON of the codec
  bool rotate_hadamard = false;
};

/// A named array of rows: per token `units` rows of `width` features, in `dtype` before encoding.
/// Head h (of Hkv) reads unit h * units / Hkv.
struct StreamSpec {
  std::string name{};
  int units = 1, width = 0;
  std::optional<Dtype> dtype{};  // of rows as they come; absent: the run dtype
  bool pre_rope = false;         // rows are keys that still have to be rotated
  bool attended = true;          // false: only stages read it
  bool follows_list = true;  // false: kept for every token whatever selectors drop; not attended
  /// The stage that declares the stream says in which bits.  Absent: the Encode stage does for
  /// attended streams, the others stay as they came.
  std::optional<Encoding> encoding{};
};

/// A number per stored row: token id, accumulated mass, 1 / rms, ...
struct Column {
  std::string name{};
  Dtype dtype = Dtype::f32;
};

/// How attention gets the features of kv head h from its unit's row x:
///   own    x
///   slice  up[h] x[h * dim, (h + 1) * dim) + bias[h], dim = head_dim for keys, value_dim for
///          values; up [Hkv, dim, dim] and bias [Hkv, dim], float32, each only where present
///   up     up[h] x + bias[h], up [Hkv, dim, width] and bias [Hkv, dim], float32
/// then RoPE at the row's position if `rotate`.  Keys that are `up` without rotation are absorbed
/// into the query, values that are `up` follow the weighted sum, once: the engine chooses the level
/// and reports it; slices with a map are built row by row.  row_scale names a column whose value
/// multiplies x, not the bias.
struct Operand {
  enum class Map : u8 { own, slice, up };
  Map map = Map::own;
  std::string stream{};
  TensorView up{}, bias{};
  bool rotate = false;
  std::string row_scale{};
};

/// What a layer stores and how it is read; computed once, lives as long as its stage.  On a self or
/// cross layer a layout without streams and rows_of is dense_layout: the layer is left alone.
struct Layout {
  std::vector<StreamSpec> streams{};
  std::vector<Column> columns{};
  Operand key{};
  std::vector<Operand> values{};  // contributions add: key row times W_KV plus side row times U
  int rows_of = -1;               // >= 0: reads that layer's rows and stores none
  bool rebuilds = false;          // K and V come from Project::rebuild ...
  int halo = 0;                   // ... which also sees this many predecessors of each row: needs
                                  // rows in one form, at append, and no selector that drops
  bool encode_at_append = false;  // later features depend on stored bytes: no recent rows
};

/// Streams "key" [Hkv, d] (pre_rope when `unrotated`) and "value" [Hkv, dv], read as they are.
Layout dense_layout(const Layer& layer, bool unrotated);

/// What a stage fills in append; R = rows of the call.  Names are the stage's own; a selector also
/// reads the streams and columns of the layout.
struct NewRows {
  virtual ~NewRows() = default;
  virtual TensorView stream(std::string_view name) = 0;  // [R, units, width] of its dtype, write
  /// The same after encode and decode, once it is written.  Of layers whose rows enter the past
  /// at append (encode_at_append, or no `recent` and no tiles), else E_UNSUPPORTED.
  virtual TensorView as_stored(std::string_view name) = 0;
  virtual TensorView column(std::string_view name) = 0;  // [R] of the column's dtype, write
  /// u8 [R, lists of the selection's granularity], 1 on entry.  0: the row dies when it leaves the
  /// selection's `recent` window.  Each selector of a chain has its own; core takes the strictest
  /// and ORs flags onto rows that heads share when the selection `coarsens`.  Of selections that
  /// say so (`flags`), else E_UNSUPPORTED.
  virtual TensorView keep() = 0;
  virtual TensorView state(SeqId sequence, std::string_view name) = 0;  // read and write
  /// The rows of earlier passes, decoded: float32 [n, units, width].  A stream of one list.
  virtual TensorView past(SeqId sequence, std::string_view stream) = 0;
};

/// Decoded rows in, keys before RoPE and values out; see Layout::rebuilds.  n = positions.size() -
/// halo rows are wanted; the first `halo` rows are predecessors (position -1: there is none).
struct RebuildCall {
  int layer = 0;
  SeqId sequence{};
  std::span<const TensorView> streams{},
      columns{};  // in the source layout's order, float32 streams
  std::span<const int32_t> positions{};
  int halo = 0;
  TensorView keys{}, values{};  // float32 [n, Hkv, d], [n, Hkv, dv]: write
};

/// Which numbers are stored.
struct Project {
  virtual ~Project() = default;
  virtual Layout layout(int layer) const = 0;
  virtual Needs needs(int layer, int64_t rows) const = 0;  // may ask K and V only for long chunks
  virtual void rows(const Append& append, NewRows& out) const = 0;  // hidden -> streams
  virtual void rebuild(const RebuildCall&) const {}
};

/// A row is encoded once it is older than `recent` positions, in whole tiles of the codec; `recent`
/// counts the query's own row.  Rows at positions below `first` stay as they came for ever.
struct Encode {
  std::function<Encoding(int layer, const StreamSpec& stream)> stream{};
  int64_t first = 0, recent = 0;
  std::string recent_codec{};  // of first and recent rows (row-wise); empty: as they came
};

/// Attention mass a selector wants: per kept row, over the queries of a pass.
struct MassRequest {
  enum class Over : u8 { sum, max };
  Over over = Over::sum;
  int64_t last_queries = 0;  // of each sequence's pass; 0: all
  bool wanted = false;
};

/// What a selector needs on one layer; cross layers are never asked.
struct Selection {
  /// head: a list per kv head, or per set of heads that share a stored row; layer: one list for all
  /// heads.  Nothing else is a list: E_COMPOSE.
  Scope granularity = Scope::layer;
  bool coarsens = false;          // may OR its flags onto rows several heads share
  bool drops = true;              // false: never drops a row (narrow only)
  bool flags = false;             // admit() writes keep(): rows die by age
  int64_t sinks = 0, recent = 1;  // protected: positions below sinks, the newest `recent`
  MassRequest mass{};
  std::vector<StreamSpec> streams{};  // own streams, e.g. a gate's keys
  std::vector<Column> columns{};
  std::vector<StateSpec> states{};
  bool reindexes = false;  // positions inside the cache are renumbered (StreamingLLM); the flags
                           // are 0 everywhere
};

/// The rows of one layer, all lists of all sequences of the chunk: list = sequence *
/// lists_per_sequence + list of the layer, first ++ past ++ recent in rising position, each row
/// once.  A selector of granularity head sees the layer's lists (fewer than kv heads where heads
/// share rows), one of granularity layer always one list: the union, where another selector has
/// split the layer.  In observe: every row some query of the pass could read; in score: the rows
/// that live on, as they are stored.
struct LiveRows {
  virtual ~LiveRows() = default;
  virtual int layer() const = 0;  // that stores the rows
  virtual int lists_per_sequence() const = 0;
  virtual std::span<const SeqId> sequences() const = 0;
  virtual Ragged positions() const = 0;                 // int32
  virtual Ragged column(std::string_view name) = 0;     // writes are kept when the chunk ends
  virtual Ragged mass(const Attend& queries) = 0;       // an extra pass; float32 [rows, heads]
  virtual Ragged decoded(std::string_view stream) = 0;  // float32 [rows, units of the list, width]
  virtual TensorView state(SeqId sequence, std::string_view name) = 0;
};

/// What attention of one layer saw.  mass: float32 [rows, query heads of the list].  Layers that
/// read another's rows report to that one.
struct Observed {
  RowMap queries{};
  Ragged mass{};
  TensorView lse_ln{}, out{};
};

/// How many rows each list of one sequence may keep, protected rows included, all layers that drop
/// at once.  List l of layers[i] is rows[first_list[i] + l]; on entry `rows` holds what it holds.
/// Asked sequence by sequence, so that nobody's budget depends on the batch.
struct Budgets {
  std::span<int64_t> rows{};
  std::span<const int64_t> first_list{};  // [layers + 1]
  std::span<const Ragged> scores{};       // one per layer: its lists
  std::span<const int> layers{};
  SeqId sequence{};
  int64_t tokens = 0;  // the sequence has seen
};

/// Which tokens live.  Each hook does nothing unless overridden; core protects, ranks, drops,
/// compacts.
struct Select {
  virtual ~Select() = default;
  virtual Selection selection(int layer) const = 0;
  virtual Needs needs(int /*layer*/, int64_t /*rows*/) const { return Needs::none; }
  virtual void admit(const Append&, NewRows&) const {}       // before attention: flags, columns
  virtual void observe(LiveRows&, const Observed&) const {}  // after attention of a layer
  virtual bool due(ChunkEnd) const { return false; }         // rank now?
  virtual void score(LiveRows&, Ragged&) const {}            // higher lives; ties to lower position
  virtual void allocate(const ModelShape&, Budgets&) const {}
  /// Read fewer rows this step, drop none (Quest): ascending row numbers per list; empty: read all.
  virtual Ragged narrow(LiveRows&, const Attend&) const { return {}; }
};

/// What a method supplies; an absent stage is dense's.
struct Stages {
  std::shared_ptr<const Project> project{};
  std::optional<Encode> encode{};
  std::shared_ptr<const Select> select{};
};

}  // namespace kvlab
