#include "core/codec.h"

#include <algorithm>

namespace kvlab {
namespace {

int64_t bytes_per_tile(const Encoded& format, bool metadata) {
  int64_t bytes = 0;
  for (const Encoded::Plane& plane : format.planes)
    if (plane.metadata == metadata)
      bytes += int64_t{plane.row_bytes} * format.tile_tokens + plane.tile_bytes;
  return bytes;
}

}  // namespace

bool Encoded::is_exact_for(Dtype dtype) const {
  return std::ranges::find(exact, dtype) != exact.end();
}
int64_t Encoded::payload_bytes_per_tile() const { return bytes_per_tile(*this, false); }
int64_t Encoded::metadata_bytes_per_tile() const { return bytes_per_tile(*this, true); }

}  // namespace kvlab
