#pragma once
// Bytes as codecs see them: plain data, the same for every instruction set and device.

#include "kernels/target.h"

namespace kvlab {

inline constexpr int kMaxPlanes = 6;

/// Rows of one unit of one stream, planes in the order of the codec's `planes`.
/// A plane by row holds row r at plane[i] + r * stride[i]; a plane by tile is the tile's bytes, and
/// its stride is 0.  Codecs of single rows get any number of consecutive rows of a page; codecs of
/// whole tiles get one tile.  There is no padding: bytes beyond the last row belong to others.
struct Tile {
  const u8* plane[kMaxPlanes];
  int64_t stride[kMaxPlanes];
  int32_t rows;
};
struct MutableTile {
  u8* plane[kMaxPlanes];
  int64_t stride[kMaxPlanes];
  int32_t rows;
};

/// float32 rows to be encoded: row r at data + r * stride.
struct FloatRows {
  const float* data;
  int64_t stride;  // in elements
};

/// Bytes of one plane; one of row_bytes and tile_bytes is 0.
struct Plane {
  int32_t row_bytes, tile_bytes;
  bool metadata;  // scales, minima: counted apart from payload
};
struct Planes {
  Plane plane[kMaxPlanes];
  int32_t count;
};

/// What an item of work asks, for codecs that read as much as the query needs (`begin`).
struct Item {
  const float* query;  // [rows, stride] as the keys will see it: rotated, mapped, not scaled
  int32_t rows;
  int64_t stride;
  float scale;     // logits = scale * <query, key>
  int64_t tokens;  // rows of the list, an upper bound
};

}  // namespace kvlab
