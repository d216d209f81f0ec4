#pragma once
// What the encode and decode kernels of CUDA are asked to do: plain data, their one argument; and
// how much of it a block of threads takes at a time.

#include "kernels/tile.h"

namespace kvlab {

enum class RowDtype : u8 { f32, f16, bf16 };

/// Slots [slot, slot + rows) of one page.  Where a codec of tiles encodes, a run begins with a tile
/// and holds whole tiles.
struct RowRun {
  u8* page;  // device memory, aligned to 16
  int64_t
      first;  // slot `slot` is row row_index[first] of the tensor, the next one [first + 1], ...
  int32_t slot, rows;
  int32_t first_unit;  // of the tensor: unit 0 of the page's list
};

/// One plane of the stream in a page, as core/rows_view.h lays it out.
struct PagePlane {
  int64_t offset, unit_stride;  // multiples of 16
  int32_t row_bytes, tile_bytes;
};

/// One stream's rows between a tensor and pages.
struct CodecRows {
  alignas(16) u8 params[64];    // of the codec
  PagePlane plane[kMaxPlanes];  // from `planes` on: zero
  int32_t planes;
  int32_t tile_log2;       // 2^tile_log2 rows of a tile
  int32_t width, units;    // of the lists of a page
  int32_t hadamard_block;  // see kernels/hadamard.h; 0: rows are stored as they are
  float hadamard_scale;    // 1 / sqrt(hadamard_block)

  u8* rows;  // [rows, units, width] of `dtype`, features contiguous, aligned to one number
  int64_t row_stride, unit_stride;  // in elements
  RowDtype dtype;

  const int32_t* row_index;  // device memory, as `runs`
  const RowRun* runs;
  int64_t run_count;
  uint64_t* refused;  // encode adds the parts that did not fit; may be null
};

enum class CodecWay : u8 { encode, decode };

}  // namespace kvlab

namespace kvlab::inline KVLAB_TARGET {

inline constexpr int kCodecThreads = 128;

KVLAB_HD int64_t up_to_16(int64_t bytes) { return (bytes + 15) / 16 * 16; }

/// A block's own memory for a chunk of `rows` rows: floats [rows][float_stride], then, to encode,
/// the chunk's bytes of each plane.  Rows of both are an odd number of words apart, so that lanes
/// which take the same column of 32 rows meet 32 different banks of shared memory.
struct CodecWorkspace {
  u8* at;
  int rows;

  KVLAB_HD static int float_stride(const CodecRows& a) { return a.width | 1; }
  KVLAB_HD static int plane_stride(const PagePlane& plane) {
    return plane.row_bytes == 0 ? 0 : ((plane.row_bytes + 3) / 4 | 1) * 4;
  }
  KVLAB_HD int64_t float_bytes(const CodecRows& a) const {
    return up_to_16(int64_t{4} * rows * float_stride(a));
  }
  KVLAB_HD int64_t plane_bytes(const PagePlane& plane) const {
    return up_to_16(plane.row_bytes == 0 ? int64_t{plane.tile_bytes}
                                         : int64_t{rows} * plane_stride(plane));
  }
  KVLAB_HD int64_t bytes(const CodecRows& a, CodecWay way) const {
    if (way == CodecWay::decode) return a.hadamard_block == 0 ? 0 : float_bytes(a);
    int64_t all = float_bytes(a);
    for (int i = 0; i < a.planes; ++i) all += plane_bytes(a.plane[i]);
    return all;
  }

  KVLAB_HD float* floats() const { return reinterpret_cast<float*>(at); }
  KVLAB_HD MutableTile tile(const CodecRows& a) const {
    MutableTile tile{};
    u8* to = at + float_bytes(a);
    KVLAB_UNROLL
    for (int i = 0; i < kMaxPlanes; ++i) {  // constant indices: the pointers stay in registers
      tile.plane[i] = to;
      tile.stride[i] = plane_stride(a.plane[i]);
      to += plane_bytes(a.plane[i]);
    }
    tile.rows = rows;
    return tile;
  }
};

/// How a launch is cut: rows of a chunk, and the workspace of one block.
struct CodecChunks {
  int rows;
  int64_t bytes;  // in shared memory if a device has as much, else in device memory

  /// Enough rows to keep the threads busy, few enough that a multiprocessor holds 7 blocks.
  KVLAB_HD static CodecChunks of(const CodecRows& a, CodecWay way) {
    constexpr int64_t kShared = int64_t{32} << 10;
    if (CodecWorkspace{nullptr, 1}.bytes(a, way) == 0) return {1 << 30, 0};
    int rows = a.tile_log2 > 0 ? 1 << a.tile_log2 : 64;
    while (a.tile_log2 == 0 && rows > 1 && CodecWorkspace{nullptr, rows}.bytes(a, way) > kShared)
      rows /= 2;
    return {rows, CodecWorkspace{nullptr, rows}.bytes(a, way)};
  }
};

}  // namespace kvlab::inline KVLAB_TARGET
