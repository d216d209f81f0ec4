#pragma once
// Codecs as the CPU engine calls them: plain C functions on plain data, one table per codec and
// instruction set.  kernels/codec_table.h makes a table from a codec; nothing else implements one.

#include "kernels/tile.h"

namespace kvlab {

enum class Isa : u8 { scalar, avx2, avx512, avx512bf16 };
inline constexpr int kIsaCount = 4;

/// Part of a tile's rows and features, and whose they are.
struct TilePart {
  const void* params;
  void* state;  // of the item of work, codec's `State`; may be null when the codec has none
  Tile tile;
  int32_t first_row, rows;          // of the tile
  int32_t first_feature, features;  // of a row
};

/// Memory that will be wanted soon: for each row read now, `step` bytes of a large plane and
/// `small_step` bytes of up to two small ones are prefetched.  step 0: nothing is.
struct Ahead {
  const u8* at;
  int32_t step;
  const u8* small[2];
  int32_t small_step[2];
};

struct PrepareQueries {
  const void* params;
  const float* queries;  // [rows, stride]
  int64_t stride;
  int32_t rows, first_feature, features;
  u8* to;  // query_bytes(...) of them, aligned to 64
};

/// out[r, t] = <query r, row first_row + t of the tile>.  Columns up to the next multiple of 16 may
/// be overwritten.
struct ScoreTile {
  TilePart part;
  const u8* prepared;  // by `prepare`, for the same features
  int32_t rows;        // queries
  float* out;
  int64_t out_stride;
  Ahead ahead;
  u8* scratch;  // scratch_bytes(...) of them, aligned to 64
};

/// sums[r, c] += sum over t of weights[r, t] * feature first_feature + c of row first_row + t.
struct ValueTile {
  TilePart part;
  const float* weights;  // [rows, weight_stride]; 15 more floats can be read
  int64_t weight_stride;
  const float* bounds;  // [tile rows]: see `weigh`; null when the codec has no such hook
  int32_t rows;         // queries
  float* sums;          // [rows, sum_stride]
  int64_t sum_stride;
  Ahead ahead;
  u8* scratch;
};

struct DecodeTile {
  TilePart part;
  float* to;  // [rows, stride]
  int64_t stride;
};

struct EncodeRows {
  const void* params;
  FloatRows rows;  // tile_rows (or any number of single) rows
  MutableTile tile;
};

struct CodecTable {
  int32_t (*state_bytes)();
  void (*begin)(const void* params, const Item&, void* state);
  int64_t (*query_bytes)(const void* params, int32_t features, int32_t rows);
  void (*prepare)(const PrepareQueries&);
  int64_t (*scratch_bytes)(const void* params, int32_t features, int32_t queries, int32_t rows);
  int64_t (*score)(const ScoreTile&);  // bytes read
  int64_t (*value)(const ValueTile&);  // bytes read
  void (*decode)(const DecodeTile&);
  int64_t (*encode)(const EncodeRows&);  // parts refused
  float (*error)(const void* params, const void* state);
  bool weighs;            // `value` wants `bounds`
  const char* score_how;  // "bf16 dot products", "decode", ...
  const char* value_how;
};

/// A codec made for one width and one set of parameters.
struct CodecKernels {
  alignas(16) u8 params[64];
  Planes planes;
  int32_t tile_rows;
  const CodecTable* table[kIsaCount];  // null where this build has none
  const char* cuda_type;               // the codec's C++ type, for code compiled at run time
};

}  // namespace kvlab
