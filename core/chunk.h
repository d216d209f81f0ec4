#pragma once
// One forward pass as the cache sees it: which tokens, what a layer hands over, what it asks.

#include <cstdint>
#include <optional>
#include <span>

#include "core/types.h"

namespace kvlab {

/// Which token each row of a tensor is.  Packed: the rows of sequences[i] are
/// [indptr[i], indptr[i + 1]); no padding rows; positions rise inside a sequence.
struct RowMap {
  std::span<const SeqId> sequences{};
  std::span<const int32_t> indptr{};
  std::span<const int32_t> positions{};
  int64_t size() const { return static_cast<int64_t>(positions.size()); }
  Range rows_of(int64_t i) const {
    return {indptr[static_cast<size_t>(i)], indptr[static_cast<size_t>(i) + 1]};
  }
};

/// What the queries of a pass read of the tokens of the same pass (specification: evaluation,
/// section 1).  The past is always read as it is stored.
///   raw_chunk  as the layer gave them; compressed and dropped only after the pass
///   stored     in stored form as soon as a token-by-token run would have encoded them
///   masked     as stored, and rows a token-by-token run would have dropped are hidden
enum class ReadPolicy : u8 { raw_chunk, stored, masked };
std::string_view name_of(ReadPolicy policy);
ReadPolicy read_policy_named(std::string_view name);

/// Said once, before layer 0.
struct Chunk {
  enum class Write : u8 { append, replace };  // replace: rewrite rows already stored (blending)
  RowMap rows{};
  std::span<const int32_t> token_ids{};  // [rows.size()], or empty when nobody needs ids
  ReadPolicy read = ReadPolicy::raw_chunk;
  Write write = Write::append;
  bool encoder = false;  // rows are encoder tokens: cross layers append, positions count them
};

/// Why a pass ends: more prompt follows, the prompt is complete, or it was a generated token.
/// Selectors that judge a whole prompt wait for `prompt`.
enum class ChunkEnd : u8 { chunk, prompt, step };

/// What a layer must hand to `append`: a set of fields.
enum class Needs : uint32_t {
  none = 0,
  hidden = 1,
  keys_pre_rope = 2,
  keys = 4,
  values = 8,
  queries = 16,
  token_ids = 32
};
constexpr Needs operator|(Needs a, Needs b) {
  return static_cast<Needs>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b));
}
constexpr Needs operator&(Needs a, Needs b) {
  return static_cast<Needs>(static_cast<uint32_t>(a) & static_cast<uint32_t>(b));
}
constexpr bool has(Needs all, Needs one) { return (all & one) != Needs::none; }

/// Exactly the fields of Cache::needs(layer, rows.size()) are present; R = rows.size().
struct Append {
  int layer = 0;
  RowMap rows{};                         // the chunk's rows, or fewer when the chunk replaces
  TensorView hidden{};                   // [R, D]        normed input of the projections
  TensorView keys_pre_rope{};            // [R, Hkv, d]   after bias and norm, not rotated
  TensorView keys{};                     // [R, Hkv, d]   rotated at the row's position
  TensorView values{};                   // [R, Hkv, dv]  after bias
  TensorView queries{};                  // [R, H, d]     after bias and norm, not rotated
  std::span<const int32_t> token_ids{};  // [R]
};

/// Its rows need not be the appended ones: tail pass, cross-attention, blending, micro-batches.
struct Attend {
  int layer = 0;
  RowMap rows{};
  TensorView queries{};            // [R, H, d] after bias and norm, any float dtype
  bool rotated = false;            // queries are already rotated at their positions
  TensorView out{};                // [R, H, dv] written
  TensorView lse_ln{};             // [R, H] float32, written when present: natural log
  std::span<const float> sinks{};  // [H] extra logits without a value (layers with learned_sink)
  /// [H, n] float32, n = Layer::distance_bias: logits += bias[h, min(query position - key position,
  /// n - 1)], before the soft-cap.
  TensorView distance_bias{};
  std::optional<Device::Kind> on{};  // which engine; default the cache's
};

}  // namespace kvlab
