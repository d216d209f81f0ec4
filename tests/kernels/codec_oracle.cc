#include "tests/kernels/codec_oracle.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>

namespace kvlab::oracle {
namespace {

uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

int bits_of(const Format& format) {
  return format.codec == "int8" ? 8 : format.codec == "int4" ? 4 : format.codec == "int2" ? 2 : 0;
}
int groups_of(const Format& format) {
  return format.group == 0 ? 1 : (format.width + format.group - 1) / format.group;
}

/// 16-bit numbers with a byte each: bits of their mantissa and their smallest normal exponent.
struct Corrected {
  int mantissa = 0, least = 0;
};
std::optional<Corrected> corrected(const Format& format) {
  if (format.codec == "float24") return Corrected{10, -14};
  if (format.codec == "bfloat24") return Corrected{7, -126};
  return std::nullopt;
}

/// hi + lo ulp(hi) / 256, or hi alone where it is not finite.
double corrected_value(const Corrected& by, double hi, uint8_t byte) {
  if (!std::isfinite(hi)) return hi;
  const int exponent = hi == 0 ? by.least : std::max(std::ilogb(hi), by.least);
  const double ulp = std::ldexp(1.0, exponent - by.mantissa);
  const int lo = byte < 128 ? byte : byte - 256;
  return lo == 0 ? hi : hi + lo * ulp / 256;
}

/// Blocks of 32 features, the last shorter; n features take R = n B / 8 bytes; byte j holds feature
/// j in its lowest B bits, feature j + R in the next B, ...
int code(const Format& format, const uint8_t* row, int feature) {
  const int bits = bits_of(format), block = feature / 32, at = feature % 32;
  const int n = std::min(32, format.width - 32 * block), bytes = n * bits / 8;
  return row[block * 4 * bits + at % bytes] >> (at / bytes * bits) & ((1 << bits) - 1);
}

const uint8_t* plane_at(const Format& format, const StoredRows& s, size_t plane, int64_t row) {
  if (s.row_bytes[plane] != 0) return s.plane[plane] + row * s.row_bytes[plane];
  return s.plane[plane] + row / format.group * s.tile_bytes[plane];
}

}  // namespace

double half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == 31)
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  return exponent == 0 ? sign * std::ldexp(mantissa, -24)
                       : sign * std::ldexp(1024 + mantissa, exponent - 25);
}

double bfloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

StoredRows sizes_of(const Format& format) {
  StoredRows s;
  const auto add = [&](int64_t row, int64_t tile) {
    s.row_bytes.push_back(row);
    s.tile_bytes.push_back(tile);
  };
  if (format.codec == "float32") {
    add(4 * format.width, 0);
  } else if (format.codec == "float16" || format.codec == "bfloat16") {
    add(2 * format.width, 0);
  } else if (corrected(format)) {
    add(2 * format.width, 0);
    add(format.width, 0);
  } else {
    add(format.width * bits_of(format) / 8, 0);
    for (int i = 0; i < 2; ++i)
      format.channel ? add(0, 2 * format.width) : add(2 * groups_of(format), 0);
  }
  s.plane.resize(s.row_bytes.size());
  return s;
}

std::vector<double> decode(const Format& format, const StoredRows& stored, int64_t row) {
  std::vector<double> x(static_cast<size_t>(format.width));
  for (int c = 0; c < format.width; ++c) {
    const uint8_t* first = plane_at(format, stored, 0, row);
    double& to = x[static_cast<size_t>(c)];
    if (format.codec == "float32") {
      float value;
      std::memcpy(&value, first + 4 * c, 4);
      to = value;
    } else if (format.codec == "float16") {
      to = half(u16(first + 2 * c));
    } else if (format.codec == "bfloat16") {
      to = bfloat(u16(first + 2 * c));
    } else if (const auto by = corrected(format)) {
      const uint16_t hi = u16(first + 2 * c);
      to = corrected_value(*by, format.codec == "float24" ? half(hi) : bfloat(hi),
                           plane_at(format, stored, 1, row)[c]);
    } else {
      const int g = format.channel ? c : format.group == 0 ? 0 : c / format.group;
      const double scale = half(u16(plane_at(format, stored, 1, row) + 2 * g));
      const double minimum = half(u16(plane_at(format, stored, 2, row) + 2 * g));
      to = scale * code(format, first, c) + minimum;
    }
  }
  return x;
}

std::vector<std::vector<double>> error_bounds(const Format& format,
                                              const std::vector<std::vector<double>>& rows) {
  std::vector<std::vector<double>> bounds(rows.size(),
                                          std::vector<double>(static_cast<size_t>(format.width)));
  const int bits = bits_of(format);
  for (size_t r = 0; r < rows.size(); ++r)
    for (int c = 0; c < format.width; ++c) {
      const double x = std::abs(rows[r][static_cast<size_t>(c)]);
      double& bound = bounds[r][static_cast<size_t>(c)];
      if (format.codec == "float16")
        bound = std::max(std::ldexp(x, -11), std::ldexp(1.0, -25));
      else if (format.codec == "bfloat16")
        bound = std::max(std::ldexp(x, -8), std::ldexp(1.0, -133));
      else if (const auto by = corrected(format))
        bound = std::ldexp(std::max(x, std::ldexp(1.0, by->least)), -8 - by->mantissa);
      if (bits == 0) continue;
      double lo = std::numeric_limits<double>::infinity(), hi = -lo;
      const auto see = [&](double v) { lo = std::min(lo, v), hi = std::max(hi, v); };
      if (format.channel) {
        const size_t tile = r / static_cast<size_t>(format.group);
        for (size_t t = tile * static_cast<size_t>(format.group);
             t < std::min(rows.size(), (tile + 1) * static_cast<size_t>(format.group)); ++t)
          see(rows[t][static_cast<size_t>(c)]);
      } else {
        const int size = format.group == 0 ? format.width : format.group;
        for (int i = c / size * size; i < std::min(format.width, (c / size + 1) * size); ++i)
          see(rows[r][static_cast<size_t>(i)]);
      }
      // The minimum is rounded down by at most one float16 step, the scale up by another.
      const double step = std::max(std::ldexp(std::abs(lo), -10), std::ldexp(1.0, -24));
      const double scale =
          (hi - lo + step) / ((1 << bits) - 1) * (1 + std::ldexp(1.0, -10)) + std::ldexp(1.0, -24);
      bound = scale / 2 + std::ldexp(std::max(std::abs(lo), std::abs(hi)), -21);
    }
  return bounds;
}

}  // namespace kvlab::oracle
