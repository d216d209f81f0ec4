#include "kernels/cuda_codecs.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "kernels/codec_kernels.h"
#include "kernels/hadamard.h"

namespace kvlab {
namespace {

RowDtype row_dtype(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return RowDtype::f32;
    case Dtype::f16:
      return RowDtype::f16;
    case Dtype::bf16:
      return RowDtype::bf16;
    default:
      fail("E_UNSUPPORTED", "cuda: rows are ", name_of(dtype),
           "; codecs take float32, float16 and bfloat16 on a device, other dtypes with --device "
           "cpu");
  }
}

const CodecKernels& kernels_of(const StreamLayout& stream) {
  KVLAB_REQUIRE(stream.codec->kernels != nullptr, "E_UNSUPPORTED", "cuda: codec ",
                stream.codec->name, " of stream `", stream.name,
                "` has no kernels; use --device cpu");
  const CodecKernels* kernels = stream.codec->kernels(stream.width, stream.params);
  KVLAB_REQUIRE(kernels->cuda_type != nullptr, "E_UNSUPPORTED", "cuda: codec ", stream.codec->name,
                " of stream `", stream.name, "` is for the CPU alone; use --device cpu");
  return *kernels;
}

void set_rotation(const StreamLayout& stream, CodecRows& to) {
  if (!stream.rotate_hadamard) return;
  KVLAB_REQUIRE(has_hadamard(stream.width), "E_UNSUPPORTED", "cuda: rows of stream `", stream.name,
                "` cannot be rotated: the largest power of two that divides their width ",
                stream.width, " is below 16 (or the width above ", kMaxHadamardWidth,
                "); turn rotate_hadamard off or change the width");
  to.hadamard_block = hadamard_block(stream.width);
  to.hadamard_scale = 1.0f / std::sqrt(static_cast<float>(to.hadamard_block));
}

}  // namespace

CodecStream cuda_codec_stream(const StreamLayout& stream, const TensorView& rows) {
  KVLAB_REQUIRE(rows.dims == 3 && rows.size(2) == stream.width && rows.stride(2) == 1, "E_SHAPE",
                "cuda: rows of stream `", stream.name, "` must be [rows, units, ", stream.width,
                "] with contiguous features");
  const CodecKernels& kernels = kernels_of(stream);
  CodecStream made{.type = kernels.cuda_type};
  CodecRows& to = made.rows;
  std::memcpy(to.params, kernels.params, sizeof to.params);
  to.planes = kernels.planes.count;
  for (int i = 0; i < to.planes; ++i) {
    const StreamLayout::Plane& place = stream.planes[static_cast<size_t>(i)];
    const Plane& plane = kernels.planes.plane[i];
    to.plane[i] = {place.offset, place.unit_stride, plane.row_bytes, plane.tile_bytes};
  }
  KVLAB_CHECK(std::has_single_bit(static_cast<unsigned>(kernels.tile_rows)));
  to.tile_log2 = std::countr_zero(static_cast<unsigned>(kernels.tile_rows));
  to.width = stream.width;
  to.units = stream.units;
  set_rotation(stream, to);
  to.rows = static_cast<u8*>(rows.data);
  to.dtype = row_dtype(rows.dtype);
  to.row_stride = rows.stride(0);
  to.unit_stride = rows.stride(1);
  return made;
}

RowRuns row_runs(const PartView& part, int stream, std::span<const Placement> where) {
  const int64_t tokens = part.page->page_tokens;
  const int units = part.page->streams[static_cast<size_t>(stream)].units;
  RowRuns made;
  made.row_index.reserve(where.size());
  for (size_t i = 0; i < where.size(); ++i) {
    const Placement& place = where[i];
    made.row_index.push_back(place.row);
    const bool goes_on = i > 0 && place.list == where[i - 1].list &&
                         place.slot == where[i - 1].slot + 1 && place.slot % tokens != 0;
    if (goes_on) {
      ++made.runs.back().rows;
      continue;
    }
    u8* page = part.lists[static_cast<size_t>(place.list)].page(place.slot / tokens);
    KVLAB_CHECK(page != nullptr);
    made.runs.push_back({.page = page,
                         .first = static_cast<int64_t>(i),
                         .slot = static_cast<int32_t>(place.slot % tokens),
                         .rows = 1,
                         .first_unit = place.list % part.lists_per_sequence * units});
  }
  return made;
}

int64_t codec_bytes_moved(const CodecRows& a, int64_t count) {
  int64_t per_row = int64_t{a.dtype == RowDtype::f32 ? 4 : 2} * a.width, per_tile = 0;
  for (int i = 0; i < a.planes; ++i) {
    per_row += a.plane[i].row_bytes;
    per_tile += a.plane[i].tile_bytes;
  }
  return a.units * (count * per_row + (count >> a.tile_log2) * per_tile);
}

}  // namespace kvlab
