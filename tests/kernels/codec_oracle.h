#pragma once
// Codec formats read in double from what their headers say of the bytes.  Includes no header of
// kernels/.

#include <cstdint>
#include <string>
#include <vector>

namespace kvlab::oracle {

/// One unit's rows: plane i of row r (codecs of single rows) or of the tile r / tile is at
/// plane[i] + r * row_bytes[i], or plane[i] + (r / tile) * tile_bytes[i].
struct StoredRows {
  std::vector<const uint8_t*> plane{};
  std::vector<int64_t> row_bytes{}, tile_bytes{};
};

struct Format {
  std::string codec{};  // "float32", ..., "int4"
  int width = 0, group = 0;
  bool channel = false;  // axis
};

/// Bytes of planes, from the formulas.
StoredRows sizes_of(const Format& format);

/// Row `row`, decoded.
std::vector<double> decode(const Format& format, const StoredRows& stored, int64_t row);

/// |decoded - x| <= this for every feature, of a tile that holds exactly `rows`.
std::vector<std::vector<double>> error_bounds(const Format& format,
                                              const std::vector<std::vector<double>>& rows);

double half(uint16_t bits);    // float16
double bfloat(uint16_t bits);  // bfloat16

}  // namespace kvlab::oracle
