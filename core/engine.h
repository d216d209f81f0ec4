#pragma once
// All that core knows of kernels.  The CPU library and the CUDA shared object each implement
// Engine; plain data in, plain data out.  Work may be queued on the device; counts arrive when
// asked for.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/chunk.h"
#include "core/model_shape.h"
#include "core/rows_view.h"
#include "core/stage.h"
#include "core/types.h"

namespace kvlab {

/// Row `row` of a tensor and slot `slot` of list `list` of a PartView are the same token.  With
/// tile codecs the placements of a tile come together, in slot order, and cover it.
struct Placement {
  int32_t row = 0, list = 0;
  int64_t slot = 0;
};

/// rows [n, units of all lists of a sequence, width] as they came -> bytes.  List l of a sequence
/// takes the units [l, l + 1) * units per list of its row.
struct EncodeCall {
  const PartView* to = nullptr;
  int stream = 0;
  TensorView rows{};
  std::span<const Placement> where{};
  TensorView as_stored{};  // same shape as rows, written when present: what a reader will see
};

/// The inverse, of single rows: a tile need not come whole.  rows float32 or as they came.
struct DecodeCall {
  const PartView* from = nullptr;
  int stream = 0;
  TensorView rows{};
  std::span<const Placement> where{};
};

/// Rows from one part to another of the same lists: streams and columns by name, decoded and
/// encoded again where the formats differ, copied byte for byte where they agree.  Tiles as in
/// EncodeCall.  Inside one part (compaction: from and to are the same view, formats row-wise) every
/// move of a list goes down, to < from, in rising order, and reads what the moves before it left.
struct Move {
  int32_t list = 0;
  int64_t from = 0, to = 0;
};
struct MoveCall {
  const PartView* from = nullptr;
  const PartView* to = nullptr;
  std::span<const Move> moves{};
};

/// A part with the operand maps that say how to read it.
struct Segment {
  PartView rows{};
  const Layout* layout = nullptr;
  const Layout* stored = nullptr;    // of the layer whose rows these are; null: layout
  const Project* project = nullptr;  // of layouts that rebuild
  /// Where each query row stands for rotation and distance_bias; empty: at its own position.
  std::span<const int32_t> query_positions{};
  std::optional<Ragged> narrowed{};  // read only these slots (int64), ascending, per list
};

/// Who computes what in a step.  Made by an engine, opaque to core, valid for every layer whose
/// shape and lists have the key it was made for.
struct Plan {
  virtual ~Plan() = default;
};

/// What ran.
struct Ran {
  std::string level{};   // fused, absorbed, materialised; "+"-joined when segments differ
  std::string kernel{};  // "bf16/avx512bf16", ...
  std::string reason{};  // why this level
  int64_t bytes_read = 0,
          flops = 0;  // counted, not estimated: stored bytes loaded, 2 per multiply-add
  int64_t scratch_bytes = 0;
  double certified_error = 0;  // of codecs that certify one
};

/// How work is split.  flat: balanced, the default.  fixed: at absolute positions 0, S, 2S, ..., so
/// that a sequence's result does not depend on its batch or on the number of threads.
struct SplitPolicy {
  enum class Kind : u8 { flat, fixed };
  Kind kind = Kind::flat;
  int64_t tokens = 256;
};

/// Levels of integration an engine may be told to use instead of its own choice.
enum class Level : u8 { automatic, fused, absorbed, materialised };

struct AttendCall {
  const Layer* shape = nullptr;
  int layer = 0;
  RowMap rows{};
  TensorView queries{};  // [R, H, d]
  bool rotated = false;
  std::span<const float> sinks{};
  TensorView distance_bias{};  // [H, n] float32, exactly where shape->distance_bias = n > 0
  std::span<const Segment> segments{};
  const Plan* plan = nullptr;
  SplitPolicy split{};
  Level level = Level::automatic;
  TensorView out{};     // [R, H, dv]; absent: only mass is wanted
  TensorView lse_ln{};  // [R, H] float32; read when mass is wanted without out
  /// Probability each row got, float32 [rows of all segments' lists, query heads of a list]: list
  /// after list, in a list segment after segment, slot order, dead rows included as 0.
  TensorView mass{};
  std::optional<MassRequest> mass_request{};
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual Device device() const = 0;
  virtual void encode(const EncodeCall& call) = 0;
  virtual void decode(const DecodeCall& call) = 0;
  virtual void move(const MoveCall& call) = 0;
  virtual std::shared_ptr<const Plan> plan(const Layer& shape, const RowMap& rows,
                                           std::span<const Segment> segments,
                                           const SplitPolicy& split) = 0;
  /// `later` is complete after the next sync().
  virtual void attend(const AttendCall& call, Ran* later) = 0;
  virtual void sync() = 0;
  virtual int64_t scratch_bytes() const = 0;  // held between calls
};

}  // namespace kvlab
