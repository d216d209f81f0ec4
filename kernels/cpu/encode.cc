#include "kernels/cpu/encode.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/error.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/part_reader.h"
#include "kernels/hadamard.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

/// One stream of a part: how its rows are written and read.
class StreamWriter {
 public:
  StreamWriter(const PartView& part, int stream, const CpuResources& resources)
      : part_(part),
        reader_(*part.page, stream, resources.isa),
        steps_(attention_steps(resources.isa)) {
    const StreamLayout& layout = reader_.layout();
    KVLAB_REQUIRE(!layout.rotate_hadamard || has_hadamard(layout.width), "E_UNSUPPORTED",
                  "cpu engine: rows of stream `", layout.name,
                  "` cannot be rotated: the largest "
                  "power of two that divides their width ",
                  layout.width, " is below 16 (or the width above ", kMaxHadamardWidth,
                  "); turn rotate_hadamard off or change the width");
  }

  int tile() const { return reader_.tile_rows(); }
  int width() const { return reader_.layout().width; }
  int units() const { return reader_.layout().units; }
  int64_t stride() const { return padded(width()); }
  int first_unit(int list) const { return list % part_.lists_per_sequence * units(); }

  /// rows [tile, stride] float32 -> the tile that begins at `slot`.  Rotates them.  Returns how
  /// many parts were refused.
  int64_t write(int list, int unit, int64_t slot, float* rows, Scratch& scratch) const {
    if (reader_.layout().rotate_hadamard) steps_.hadamard(rows, stride(), tile(), width(), false);
    if (!reader_.has_kernels()) return write_elsewhere(list, unit, slot, rows, scratch);
    const TilePart part = at(list, unit, slot);
    EncodeRows encode{.params = part.params, .rows = {rows, stride()}, .tile = {}};
    for (int i = 0; i < kMaxPlanes; ++i) {
      encode.tile.plane[i] = const_cast<u8*>(part.tile.plane[i]);
      encode.tile.stride[i] = part.tile.stride[i];
    }
    encode.tile.rows = tile();
    return reader_.table().encode(encode);
  }

  /// The tile (or row) at `slot` to float32 rows, rotated back.
  void read(int list, int unit, int64_t slot, float* rows, Scratch& scratch) const {
    if (reader_.has_kernels())
      reader_.table().decode({.part = at(list, unit, slot), .to = rows, .stride = stride()});
    else
      read_elsewhere(list, unit, slot, rows, scratch);
    if (reader_.layout().rotate_hadamard) steps_.hadamard(rows, stride(), tile(), width(), true);
  }

  /// One row of a tile.
  void read_row(int list, int unit, int64_t slot, float* row, Scratch& scratch) const {
    if (tile() == 1) return read(list, unit, slot, row, scratch);
    TilePart part = at(list, unit, slot / tile() * tile());
    part.first_row = static_cast<int32_t>(slot % tile());
    part.rows = 1;
    reader_.table().decode({.part = part, .to = row, .stride = stride()});
    if (reader_.layout().rotate_hadamard) steps_.hadamard(row, stride(), 1, width(), true);
  }

 private:
  const u8* page_of(int list, int64_t slot) const {
    const u8* page = part_.lists[static_cast<size_t>(list)].page(slot / part_.page->page_tokens);
    KVLAB_CHECK(page != nullptr);
    return page;
  }
  TilePart at(int list, int unit, int64_t slot) const {
    const int row = static_cast<int>(slot % part_.page->page_tokens);
    TilePart part = reader_.part(page_of(list, slot), unit, row, tile(), 0, width(), nullptr);
    KVLAB_CHECK(part.first_row == 0);  // whole tiles
    return part;
  }

  // Codecs without kernels keep the bytes of a row together, plane after plane.
  int64_t row_bytes() const {
    int64_t bytes = 0;
    for (const Encoded::Plane& plane : reader_.layout().format.planes) bytes += plane.row_bytes;
    return bytes;
  }
  void copy_bytes(int list, int unit, int64_t slot, u8* row, bool to_page) const {
    const StreamLayout& layout = reader_.layout();
    KVLAB_REQUIRE(tile() == 1, "E_UNSUPPORTED", "cpu engine: codec ", layout.codec->name,
                  " has row functions but tiles of ", tile(), " rows; it must have tiles of 1");
    u8* page = const_cast<u8*>(page_of(list, slot));
    const int64_t in_page = slot % part_.page->page_tokens;
    for (size_t i = 0; i < layout.format.planes.size(); ++i) {
      const int64_t n = layout.format.planes[i].row_bytes;
      u8* stored =
          page + layout.planes[i].offset + unit * layout.planes[i].unit_stride + in_page * n;
      std::memcpy(to_page ? stored : row, to_page ? row : stored, static_cast<size_t>(n));
      row += n;
    }
  }
  int64_t write_elsewhere(int list, int unit, int64_t slot, float* row, Scratch& scratch) const {
    u8* bytes = scratch.take<u8>(row_bytes());
    reader_.layout().codec->encode_rows(dense_view(row, Dtype::f32, {1, width()}),
                                        dense_view(bytes, Dtype::u8, {1, row_bytes()}));
    copy_bytes(list, unit, slot, bytes, true);
    return 0;
  }
  void read_elsewhere(int list, int unit, int64_t slot, float* row, Scratch& scratch) const {
    u8* bytes = scratch.take<u8>(row_bytes());
    copy_bytes(list, unit, slot, bytes, false);
    reader_.layout().codec->decode_rows(dense_view(bytes, Dtype::u8, {1, row_bytes()}),
                                        dense_view(row, Dtype::f32, {1, width()}));
  }

  const PartView& part_;
  StreamReader reader_;
  const AttentionSteps& steps_;

 public:
  bool has_kernels() const { return reader_.has_kernels(); }
};

/// Calls work(first placement, scratch) for every tile of placements; one thread for codecs without
/// kernels, whose functions may be anybody's.
template <class Work>
void for_tiles(CpuResources& resources, size_t placements, int tile, const StreamWriter& writer,
               bool has_kernels, const Work& work) {
  constexpr size_t kPerTask = 16;    // tiles
  constexpr int64_t kPerNumber = 8;  // operations
  const size_t tiles = placements / static_cast<size_t>(tile);
  const int tasks = static_cast<int>((tiles + kPerTask - 1) / kPerTask);
  const int64_t numbers = static_cast<int64_t>(placements) * writer.units() * writer.width();
  const int threads = worthwhile_threads(resources.threads, kPerNumber * numbers);
  run_parallel(tasks, has_kernels ? threads : 1, [&](int task, int thread) {
    Scratch& scratch = resources.scratch[static_cast<size_t>(thread)];
    const size_t last = std::min(tiles, (static_cast<size_t>(task) + 1) * kPerTask);
    for (size_t i = static_cast<size_t>(task) * kPerTask; i < last; ++i) {
      const Scratch::Mark mark(scratch);
      work(i * static_cast<size_t>(tile), scratch);
    }
  });
}

void check_stream(const PartView& part, int stream, const TensorView& rows, const char* what) {
  KVLAB_CHECK(stream >= 0 && stream < static_cast<int>(part.page->streams.size()));
  check_rows(rows, what);
  const StreamLayout& layout = part.page->streams[static_cast<size_t>(stream)];
  const int64_t units = int64_t{layout.units} * part.lists_per_sequence;
  KVLAB_REQUIRE(rows.size(1) == units && rows.size(2) == layout.width, "E_SHAPE",
                "cpu engine: ", what, " of stream `", layout.name, "` are [", rows.size(0), ", ",
                rows.size(1), ", ", rows.size(2), "]; they must be [rows, ", units, ", ",
                layout.width, "]");
}

/// Whether bytes of one stream mean the same in the other.
bool same_format(const StreamLayout& a, const StreamLayout& b) {
  return a.codec->name == b.codec->name && a.params == b.params && a.width == b.width &&
         a.units == b.units && a.rotate_hadamard == b.rotate_hadamard && a.format == b.format;
}

}  // namespace

void encode(CpuResources& resources, const EncodeCall& call) {
  check_stream(*call.to, call.stream, call.rows, "rows to encode");
  if (call.as_stored) check_stream(*call.to, call.stream, call.as_stored, "rows as stored");
  const StreamWriter writer(*call.to, call.stream, resources);
  const AttentionSteps& steps = attention_steps(resources.isa);
  const int tile = writer.tile();
  KVLAB_CHECK(call.where.size() % static_cast<size_t>(tile) == 0);
  std::atomic<int64_t> refused{0};
  for_tiles(resources, call.where.size(), tile, writer, writer.has_kernels(),
            [&](size_t first, Scratch& scratch) {
              float* rows = scratch.take<float>(tile * writer.stride());
              const Placement& place = call.where[first];
              const int unit0 = writer.first_unit(place.list);
              for (int unit = 0; unit < writer.units(); ++unit) {
                for (int t = 0; t < tile; ++t)
                  load_row(steps, call.rows, call.where[first + static_cast<size_t>(t)].row,
                           unit0 + unit, writer.width(), rows + t * writer.stride());
                refused += writer.write(place.list, unit, place.slot, rows, scratch);
                if (!call.as_stored) continue;
                writer.read(place.list, unit, place.slot, rows, scratch);
                for (int t = 0; t < tile; ++t)
                  store_row(steps, call.as_stored, call.where[first + static_cast<size_t>(t)].row,
                            unit0 + unit, writer.width(), rows + t * writer.stride());
              }
            });
  const StreamLayout& layout = call.to->page->streams[static_cast<size_t>(call.stream)];
  KVLAB_REQUIRE(refused == 0, "E_NONFINITE", "cpu engine: codec ", layout.codec->name,
                " cannot hold numbers of stream `", layout.name, "`: ", refused.load(),
                " groups have a minimum or a scale beyond float16 (65504); keep this layer in "
                "bfloat16 or float32, or scale its rows down");
}

void decode(CpuResources& resources, const DecodeCall& call) {
  check_stream(*call.from, call.stream, call.rows, "decoded rows");
  const StreamWriter reader(*call.from, call.stream, resources);
  const AttentionSteps& steps = attention_steps(resources.isa);
  for_tiles(resources, call.where.size(), 1, reader, reader.has_kernels(),
            [&](size_t i, Scratch& scratch) {
              float* row = scratch.take<float>(reader.stride());
              const Placement& place = call.where[i];
              for (int unit = 0; unit < reader.units(); ++unit) {
                reader.read_row(place.list, unit, place.slot, row, scratch);
                store_row(steps, call.rows, place.row, reader.first_unit(place.list) + unit,
                          reader.width(), row);
              }
            });
}

namespace {

void copy_tile(const PartView& from, const PartView& to, const StreamLayout& source,
               const StreamLayout& target, const Move& move) {
  const int tile = source.format.tile_tokens;
  const auto page = [&](const PartView& part, int64_t slot) {
    u8* at = part.lists[static_cast<size_t>(move.list)].page(slot / part.page->page_tokens);
    KVLAB_CHECK(at != nullptr);
    return at;
  };
  const u8* a = page(from, move.from);
  u8* b = page(to, move.to);
  for (size_t i = 0; i < source.format.planes.size(); ++i) {
    const Encoded::Plane& plane = source.format.planes[i];
    const int64_t bytes = int64_t{plane.row_bytes} * tile + plane.tile_bytes;
    const int64_t from_tile = move.from % from.page->page_tokens / tile;
    const int64_t to_tile = move.to % to.page->page_tokens / tile;
    for (int unit = 0; unit < source.units; ++unit)
      std::memmove(
          b + target.planes[i].offset + unit * target.planes[i].unit_stride + to_tile * bytes,
          a + source.planes[i].offset + unit * source.planes[i].unit_stride + from_tile * bytes,
          static_cast<size_t>(bytes));
  }
}

void move_column(const PartView& from, const PartView& to, const ColumnLayout& source,
                 const ColumnLayout& target, std::span<const Move> moves) {
  KVLAB_CHECK(source.dtype == target.dtype);
  const int64_t bytes = size_of(source.dtype);
  for (const Move& move : moves) {
    const size_t list = static_cast<size_t>(move.list);
    const u8* a = from.lists[list].page(move.from / from.page->page_tokens);
    u8* b = to.lists[list].page(move.to / to.page->page_tokens);
    KVLAB_CHECK(a != nullptr && b != nullptr);
    std::memcpy(b + target.offset + move.to % to.page->page_tokens * bytes,
                a + source.offset + move.from % from.page->page_tokens * bytes,
                static_cast<size_t>(bytes));
  }
}

void move_stream(CpuResources& resources, const MoveCall& call, int source, int target) {
  const StreamLayout& a = call.from->page->streams[static_cast<size_t>(source)];
  const StreamLayout& b = call.to->page->streams[static_cast<size_t>(target)];
  if (same_format(a, b)) {
    // In order, one thread: inside one part a move may read what the one before it wrote.
    for (size_t i = 0; i < call.moves.size(); i += static_cast<size_t>(a.format.tile_tokens))
      copy_tile(*call.from, *call.to, a, b, call.moves[i]);
    return;
  }
  KVLAB_REQUIRE(a.width == b.width && a.units == b.units, "E_SHAPE", "cpu engine: stream `", a.name,
                "` has ", a.units, " units of ", a.width, " features in one part and ", b.units,
                " of ", b.width, " in the other");
  const StreamWriter reader(*call.from, source, resources), writer(*call.to, target, resources);
  const int tile = writer.tile();
  KVLAB_CHECK(call.moves.size() % static_cast<size_t>(tile) == 0);
  std::atomic<int64_t> refused{0};
  for_tiles(resources, call.moves.size(), tile, writer,
            reader.has_kernels() && writer.has_kernels(), [&](size_t first, Scratch& scratch) {
              float* rows = scratch.take<float>(tile * writer.stride());
              for (int unit = 0; unit < a.units; ++unit) {
                for (int t = 0; t < tile; ++t) {
                  const Move& move = call.moves[first + static_cast<size_t>(t)];
                  reader.read_row(move.list, unit, move.from, rows + t * writer.stride(), scratch);
                }
                refused +=
                    writer.write(call.moves[first].list, unit, call.moves[first].to, rows, scratch);
              }
            });
  KVLAB_REQUIRE(refused == 0, "E_NONFINITE", "cpu engine: codec ", b.codec->name,
                " cannot hold numbers of stream `", b.name, "`: ", refused.load(),
                " groups have a minimum or a scale beyond float16 (65504); keep this layer in "
                "bfloat16 or float32, or scale its rows down");
}

}  // namespace

void move(CpuResources& resources, const MoveCall& call) {
  const PageLayout &from = *call.from->page, &to = *call.to->page;
  for (size_t i = 0; i < to.streams.size(); ++i)
    if (const int source = from.stream(to.streams[i].name); source >= 0)
      move_stream(resources, call, source, static_cast<int>(i));
  for (const ColumnLayout& target : to.columns)
    if (const int source = from.column(target.name); source >= 0)
      move_column(*call.from, *call.to, from.columns[static_cast<size_t>(source)], target,
                  call.moves);
}

}  // namespace kvlab
